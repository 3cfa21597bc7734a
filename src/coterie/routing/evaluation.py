"""Judging an ensemble by the logits of base and specialists on labelled samples. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.errors import InputError
from coterie.measures.balance import measure_balance
from coterie.measures.metrics import in_top_k
from coterie.measures.report import ClusterRow, Curve, Report
from coterie.measures.significance import gain_interval
from coterie.partition import Partition
from coterie.routing.gate import GateCurve, sweep_thresholds
from coterie.routing.rule import Rule

# More points would make reports larger, and no drawn curve smoother.
CURVE_POINTS = 200


@dataclass(frozen=True, eq=False)
class Outputs:
    """Logits of base and specialists on N labelled samples.

    ``base_NC``: the base's logits; ``packed_NM``: every specialist's logits for every sample (see Partition);
    ``label_N``: true classes; ``pass_cost``: operations of a specialist's pass as a multiple of the base's, less than 1
    where it continues from the base's trunk.

    Raises:
        InputError: lengths differ, or a logit is not finite.
    """

    base_NC: FloatArray
    packed_NM: FloatArray
    label_N: IntArray
    pass_cost: float = 1.0

    def __post_init__(self) -> None:
        n = len(self.label_N)
        if len(self.base_NC) != n or len(self.packed_NM) != n or n == 0:
            raise InputError(
                f"as many logits as labels are needed: base {len(self.base_NC)}, specialists {len(self.packed_NM)}, "
                f"labels {n}"
            )
        if not (np.isfinite(self.base_NC).all() and np.isfinite(self.packed_NM).all()):
            raise InputError("logits must be finite; some are NaN or infinite")

    def take(self, row_R: IntArray | BoolArray) -> Outputs:
        """Some of the samples."""
        return replace(self, base_NC=self.base_NC[row_R], packed_NM=self.packed_NM[row_R], label_N=self.label_N[row_R])


@dataclass(frozen=True, eq=False)
class Routing:
    """What a rule does with N samples.

    ``base_proba_NC``: probabilities of a sample that is not routed; ``routed_proba_NC``: of one that is; ``score_N``:
    the gate's score; ``cluster_N``: the likeliest cluster; ``extra_N``: forward passes that routing the sample adds to
    the base's.
    """

    rule: Rule
    base_proba_NC: FloatArray
    routed_proba_NC: FloatArray
    score_N: FloatArray
    cluster_N: IntArray
    extra_N: FloatArray

    @classmethod
    def of(cls, outputs: Outputs, partition: Partition, rule: Rule) -> Routing:
        """From the outputs of base and specialists."""
        question = rule.ask(outputs.base_NC, partition)
        asked_NS = question.asked(np.ones(len(outputs.label_N), dtype=bool))
        return cls(
            rule,
            question.answer.proba_NC,
            question.combine(outputs.packed_NM, asked_NS),
            question.score_N,
            question.answer.cluster_N,
            outputs.pass_cost * question.extra_passes(asked_NS),
        )

    def right(self, label_N: IntArray) -> tuple[BoolArray, BoolArray]:
        """Whether each sample's answer is right if it is not routed, and if it is."""
        return self.base_proba_NC.argmax(axis=1) == label_N, self.routed_proba_NC.argmax(axis=1) == label_N

    @cached_property
    def routed_N(self) -> BoolArray:
        """Whether each sample's score reaches the gate's threshold."""
        return self.score_N >= self.rule.gate.threshold

    def answers(self) -> tuple[IntArray, IntArray]:
        """The class that base and ensemble give each sample."""
        base_N = self.base_proba_NC.argmax(axis=1)
        return base_N, np.where(self.routed_N, self.routed_proba_NC.argmax(axis=1), base_N)

    def proba_NC(self) -> FloatArray:
        """The ensemble's probabilities, of shape (N, C)."""
        return np.where(self.routed_N[:, None], self.routed_proba_NC, self.base_proba_NC)

    def mean_passes(self) -> float:
        """Forward passes per sample, the base's included."""
        return 1.0 + float((self.extra_N * self.routed_N).mean())


def evaluate(outputs: Outputs, partition: Partition, rule: Rule, train_count_C: IntArray | None = None) -> Report:
    """The report of a data split.

    Args:
        outputs: of base and specialists on the split.
        partition: the clusters.
        rule: whom each sample asks, and how answers are combined.
        train_count_C: training samples of each class; default: not known.
    """
    routing = Routing.of(outputs, partition, rule)
    label_N = outputs.label_N
    proba_NC = routing.proba_NC()
    base_N = in_top_k(routing.base_proba_NC, label_N, 1)
    ensemble_N = in_top_k(proba_NC, label_N, 1)
    interval = gain_interval(base_N, ensemble_N)
    rows = tuple(_cluster_row(outputs, partition, cluster) for cluster in range(partition.n_clusters))
    n = len(label_N)
    # Of several partitions side by side, each class is in one cluster of the first: its figures are the ensemble's.
    first = [rows[cluster] for cluster in partition.layers[0]]
    n_held = sum(row.n_samples for row in first)  # more than n where clusters overlap
    return Report(
        n_samples=n,
        base_top1=float(base_N.mean()),
        base_top3=float(in_top_k(routing.base_proba_NC, label_N, 3).mean()),
        ensemble_top1=float(ensemble_N.mean()),
        ensemble_top3=float(in_top_k(proba_NC, label_N, 3).mean()),
        gain=float(ensemble_N.mean() - base_N.mean()),
        gain_low=interval.low,
        gain_high=interval.high,
        routed_fraction=float(routing.routed_N.mean()),
        mean_passes=routing.mean_passes(),
        router_accuracy=float(partition.holds(routing.cluster_N, label_N).mean()),
        oracle_restricted=sum(row.restricted_top1 * row.n_samples for row in first) / n_held,
        oracle_specialist=sum(row.specialist_top1 * row.n_samples for row in first) / n_held,
        threshold=rule.gate.threshold if np.isfinite(rule.gate.threshold) else None,
        corrected=int((ensemble_N & ~base_N).sum()),
        spoiled=int((base_N & ~ensemble_N).sum()),
        clusters=rows,
        curve=_thin(sweep_thresholds(routing.score_N, *routing.right(label_N))),
        balance=measure_balance(label_N, routing.base_proba_NC.argmax(axis=1), proba_NC.argmax(axis=1), train_count_C),
    )


def _cluster_row(outputs: Outputs, partition: Partition, cluster: int) -> ClusterRow:
    classes = partition.classes(cluster)
    rows, local = partition.own_rows(cluster, outputs.label_N)
    label = outputs.label_N[rows]
    scores = {
        "base": (outputs.base_NC[rows], label),
        "restricted": (outputs.base_NC[np.ix_(rows, classes)], local),
        "specialist": (outputs.packed_NM[rows, partition.columns(cluster)], local),
    }
    accuracy = {
        f"{name}_top{k}": float(in_top_k(score, target, k).mean()) if rows.size else 0.0
        for name, (score, target) in scores.items()
        for k in (1, 3)
    }
    return ClusterRow(cluster=cluster, classes=tuple(classes.tolist()), n_samples=int(rows.size), **accuracy)


def _thin(curve: GateCurve) -> Curve:
    keep = np.unique(np.linspace(0, len(curve.routed_T) - 1, CURVE_POINTS).round().astype(int))
    # The first threshold routes nothing and is infinite, which JSON cannot hold: any finite one above the rest will do.
    finite_T = np.where(np.isinf(curve.threshold_T), np.nextafter(curve.threshold_T[1], np.inf), curve.threshold_T)
    return Curve(
        tuple(finite_T[keep].tolist()), tuple(curve.routed_T[keep].tolist()), tuple(curve.accuracy_T[keep].tolist())
    )
