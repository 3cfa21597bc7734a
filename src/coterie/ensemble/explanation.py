"""What led to an answer: as arrays, and sample by sample for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.rule import Rule


@dataclass(frozen=True, eq=False)
class Decision:
    """Probabilities of N samples, and what led to them.

    ``base_logits_NC``: of the network, before any temperature; ``score_N``: the gate's; ``routed_N``: whether the score
    reached the threshold; ``cluster_N``: the most likely cluster; ``asked_NS``: the clusters that
    were asked; ``packed_logits_NM``: the specialists' logits (see Partition), NaN where none was asked.
    """

    proba_NC: FloatArray
    base_logits_NC: FloatArray
    score_N: FloatArray
    routed_N: BoolArray
    cluster_N: IntArray
    asked_NS: BoolArray
    packed_logits_NM: FloatArray


@dataclass(frozen=True)
class SpecialistAnswer:
    """The answer of one specialist: its cluster, its weight beside the base, and its top classes with their
    probabilities within the cluster.
    """

    cluster: int
    weight: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explanation:
    """Why a sample got its class: the top classes of the base and of the specialists, with their probabilities.

    ``specialists``: those that were asked, of the most likely cluster first; none where the base was sure, or where the
    specialists of the likely clusters have no weight. ``score``: the gate's, named ``score_name``. ``threshold``: None
    routes nothing. ``cluster``: the most likely one.
    """

    predicted: str
    probability: float
    routed: bool
    score_name: str
    score: float
    threshold: float | None
    cluster: int
    cluster_classes: tuple[str, ...]
    base_top: tuple[tuple[str, float], ...]
    specialists: tuple[SpecialistAnswer, ...]


def explain(decision: Decision, rule: Rule, partition: Partition, labels: LabelSpace, top: int) -> list[Explanation]:
    """One explanation per sample, with so many classes of base and specialists."""
    # What belongs to all samples, once.
    base_NC = _softmax(rule.base_logits(decision.base_logits_NC))
    # A cluster may be asked without a specialist: its other classes then get 0, and there is no answer to show.
    asked_NS = decision.asked_NS & rule.combiner.needs_specialist(partition)
    calibrated_NM = decision.packed_logits_NM / rule.temperatures.of_columns(partition)
    weight_S = rule.combiner.weights(partition)
    every_class, gate = np.arange(len(labels)), rule.gate

    def likeliest(proba: FloatArray, classes: IntArray) -> tuple[tuple[str, float], ...]:
        order = np.argsort(-proba, kind="stable")[:top]
        return tuple((labels.names[classes[i]], float(proba[i])) for i in order)

    def answer(row: int, cluster: int) -> SpecialistAnswer:
        conditional = _softmax(calibrated_NM[row, partition.columns(cluster)])
        return SpecialistAnswer(cluster, float(weight_S[cluster]), likeliest(conditional, partition.classes(cluster)))

    def of(row: int) -> Explanation:
        proba_C, cluster = decision.proba_NC[row], int(decision.cluster_N[row])
        best = int(proba_C.argmax())
        asked = np.flatnonzero(asked_NS[row]).tolist()
        if len(asked) > 1:
            asked.sort(key=lambda k: -base_NC[row, partition.classes(k)].sum())
        return Explanation(
            predicted=labels.names[best],
            probability=float(proba_C[best]),
            routed=bool(decision.routed_N[row]),
            score_name=gate.score,
            score=float(decision.score_N[row]),
            threshold=gate.threshold if np.isfinite(gate.threshold) else None,
            cluster=cluster,
            cluster_classes=labels.of(partition.classes(cluster).tolist()),
            base_top=likeliest(base_NC[row], every_class),
            specialists=tuple(answer(row, k) for k in asked),
        )

    return [of(row) for row in range(len(base_NC))]


def _softmax(logits: FloatArray) -> FloatArray:
    """Along the last axis. SciPy's takes longer to find out which library's array it has than to compute one sample."""
    raised: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
