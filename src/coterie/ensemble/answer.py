"""A rule as tensor operations: whom to ask and what comes of it, on the device where the networks are.

``coterie.routing`` says the same in arrays, and is the reference: probabilities agree to 1e-6. All shapes follow from
the rule, the partition and the number of rows, and none from values, so that the operations can be exported as a graph.
For a single sample each operation costs more than its arithmetic, so there are few of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.partition import Partition
from coterie.routing.rule import Rule

TINY = torch.finfo(torch.float32).tiny
LOG_TINY = math.log(TINY)
# The logarithm of 0, finite: times a weight of 0, or in a gradient, infinity would be NaN. Divided by a temperature it
# has to be finite too.
LOG_0 = torch.finfo(torch.float32).min / 1000


@dataclass(frozen=True, eq=False)
class TensorQuestion:
    """A rule applied to the base's logits of N samples, before any specialist is run.

    ``logits_NC``: at the base's temperature; ``log_proba_NC`` and ``proba_NC``: their (log-)softmax; ``score_N``: the
    gate's; ``routed_N``: whether it reached the threshold; ``cluster_NT``: the T likeliest clusters of each sample, the
    first of which is the likeliest of all; ``asked_NT``: whether it asks them; ``runs_NT``: whether their specialists
    are run for it.
    """

    logits_NC: Tensor
    log_proba_NC: Tensor
    proba_NC: Tensor
    score_N: Tensor
    routed_N: Tensor
    cluster_NT: Tensor
    asked_NT: Tensor
    runs_NT: Tensor

    @property
    def asks_N1(self) -> Tensor:
        """Whether a sample asks any cluster, of shape (N, 1)."""
        return self.asked_NT if self.asked_NT.shape[1] == 1 else self.asked_NT.any(1, keepdim=True)

    def plan(self) -> Plan:
        """What the CPU has to know to have specialists run; one transfer from the device."""
        total_N1 = self.logits_NC.detach().sum(1, keepdim=True)
        if total_N1.device.type == "cpu":
            parts = [part.numpy() for part in (total_N1, self.cluster_NT, self.asked_NT, self.runs_NT)]
        else:
            # As float32, which holds the number of any cluster.
            packed = torch.cat([total_N1, self.cluster_NT, self.asked_NT, self.runs_NT], 1).cpu().numpy()
            width = self.cluster_NT.shape[1]
            parts = np.split(packed, (1, 1 + width, 1 + 2 * width), axis=1)
        sum_N1, cluster_NT, asked_NT, runs_NT = parts
        run_NT = np.where(runs_NT, cluster_NT, -1)
        clusters = sorted({int(cluster) for cluster in run_NT.ravel().tolist() if cluster >= 0})
        rows = {cluster: (run_NT == cluster).any(axis=1).nonzero()[0] for cluster in clusters}
        return Plan(rows, bool(asked_NT.any()), bool(np.isfinite(sum_N1).all()))


@dataclass(frozen=True)
class Plan:
    """The rows that each specialist is run for; whether any row asks a cluster, with a specialist or without; and
    whether the sums of the base's logits are finite, as they are if the logits are, unless these are enormous.
    """

    rows: dict[int, NDArray[np.int64]]
    asks: bool
    finite: bool


class TensorRule:
    """A rule over a partition. The classes of clusters are padded to the size K of the largest, at least 2.

    Args:
        rule: to apply.
        partition: of the classes that the base's logits are of.
        device: where the logits are.
    """

    def __init__(self, rule: Rule, partition: Partition, device: torch.device | None = None) -> None:
        def tensor(values: Any, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.tensor(np.array(values), dtype=dtype, device=device)

        self.gate, self.combiner, self.temperature = rule.gate, rule.combiner, rule.temperatures.base
        size_S, class_M = partition.size_S, partition.packed_class_M
        cluster_M = np.repeat(np.arange(len(size_S)), size_S)
        self.n_clusters, self.n_columns, self.overlaps = len(size_S), len(class_M), partition.overlaps
        self.class_M, self.cluster_M = tensor(class_M), tensor(cluster_M)
        self.layers = [tensor(cluster_L) for cluster_L in partition.layers]
        place_SK = np.arange(max(2, size_S.max()))[None, :]
        # Behind the last class, and the last column, there is one for what is padded.
        column_SK = np.where(place_SK < size_S[:, None], (np.cumsum(size_S) - size_S)[:, None] + place_SK, len(class_M))
        self.column_SK, self.class_SK = tensor(column_SK), tensor(np.append(class_M, partition.n_classes)[column_SK])
        needs_S, weight_S = self.combiner.needs_specialist(partition), self.combiner.weights(partition)
        self.all_need, self.needs_S = bool(needs_S.all()), tensor(needs_S, torch.bool)
        self.weight = float(weight_S[0]) if len(set(weight_S.tolist())) == 1 else None
        self.weight_S = tensor(weight_S, torch.float32)
        self.heated = any(temperature != 1 for temperature in rule.temperatures.specialist_S)
        self.temperature_M = tensor(rule.temperatures.of_columns(partition), torch.float32)
        # As exact as the reference, where the device knows such numbers.
        exact = torch.float32 if device is not None and device.type == "mps" else torch.float64
        self.coefficient_F = None if self.gate.model is None else tensor(self.gate.model.coefficients, exact)

    def ask(self, base_logits_NC: Tensor) -> TensorQuestion:
        """Apply the rule to the base's logits, float32 of shape (N, C), before any specialist is run."""
        logits_NC = base_logits_NC if self.temperature == 1 else base_logits_NC / self.temperature
        log_proba_NC, proba_NC = logits_NC.log_softmax(1), logits_NC.softmax(1)
        # Column by column and not by a product of matrices, which some devices compute in less than float32.
        mass_NS = proba_NC.new_zeros(proba_NC.shape[0], self.n_clusters).scatter_add(
            1, self.cluster_M.expand(proba_NC.shape[0], -1), proba_NC.index_select(1, self.class_M)
        )
        cluster_NT = self._likeliest(mass_NS)
        score_N = self._scores(logits_NC, log_proba_NC, proba_NC, mass_NS, cluster_NT[:, :1])
        routed_N = score_N >= self.gate.threshold
        asked_NT = routed_N[:, None].expand(-1, cluster_NT.shape[1])
        runs_NT = asked_NT if self.all_need else asked_NT & self.needs_S[cluster_NT]
        # Without the rest, a cluster without a specialist changes the result too: the other classes get 0.
        asked_NT = runs_NT if self.combiner.keeps_rest else asked_NT
        return TensorQuestion(logits_NC, log_proba_NC, proba_NC, score_N, routed_N, cluster_NT, asked_NT, runs_NT)

    def combine(self, question: TensorQuestion, packed_logits_NM: Tensor) -> Tensor:
        """The ensemble's probabilities, of shape (N, C), rows summing to 1. A row that asks no cluster is the base's.

        Args:
            question: by ``ask``.
            packed_logits_NM: the specialists' logits (see Partition), finite also where none was run.
        """
        proba_NC = self._combined_logits(question, packed_logits_NM).softmax(1)
        return torch.where(question.asks_N1, proba_NC, question.proba_NC)

    def combine_logits(self, question: TensorQuestion, packed_logits_NM: Tensor) -> Tensor:
        """Finite values of shape (N, C) whose softmax ``combine`` gives. A row that asks no cluster is the base's."""
        log_NC = self._combined_logits(question, packed_logits_NM).log_softmax(1).clamp(min=LOG_TINY)
        return torch.where(question.asks_N1, log_NC, question.logits_NC)

    def _combined_logits(self, question: TensorQuestion, packed_logits_NM: Tensor) -> Tensor:
        cluster_NT = question.cluster_NT
        shape = (*cluster_NT.shape, self.class_SK.shape[1])
        class_NB, column_NB = _of(self.class_SK, cluster_NT), _of(self.column_SK, cluster_NT)
        # In logarithms throughout: in float32, products of small probabilities would become 0.
        log_NA = F.pad(question.log_proba_NC, (0, 1), value=LOG_0)
        base_NTK = log_NA.gather(1, class_NB).view(shape)
        inside_NTK = base_NTK.log_softmax(2)
        # The logarithm of the sum that was divided by; at the largest value, where it is exact to a float32.
        mass_NT1 = base_NTK.amax(2, keepdim=True) - inside_NTK.amax(2, keepdim=True)
        heated_NM = packed_logits_NM / self.temperature_M if self.heated else packed_logits_NM
        specialist_NTK = F.pad(heated_NM, (0, 1), value=LOG_0).gather(1, column_NB).view(shape)
        value_NTK = self._mixed(inside_NTK, specialist_NTK, cluster_NT) + mass_NT1
        log_NC = self._placed(log_NA, class_NB, value_NTK.flatten(1), question.asked_NT)
        return log_NC if self.combiner.temperature == 1 else log_NC / self.combiner.temperature

    def asked_NS(self, question: TensorQuestion) -> Tensor:
        """Which clusters each sample asks, of shape (N, S)."""
        return self._marked(question, question.asked_NT)

    def ran_NM(self, question: TensorQuestion) -> Tensor:
        """Which packed columns hold an answer that was asked for, of shape (N, M)."""
        return self._marked(question, question.runs_NT)[:, self.cluster_M]

    def _marked(self, question: TensorQuestion, mark_NT: Tensor) -> Tensor:
        none_NS = mark_NT.new_zeros(mark_NT.shape[0], self.n_clusters)
        return none_NS.scatter(1, question.cluster_NT, mark_NT)

    def _likeliest(self, mass_NS: Tensor) -> Tensor:
        """The likeliest clusters of each partition, (N, T); of equals, the first."""
        if len(self.layers) == 1 and self.combiner.top == 1:
            return mass_NS.argmax(1, keepdim=True)
        chosen = []
        for cluster_L in self.layers:
            mass_NL = mass_NS[:, cluster_L]
            for _ in range(min(self.combiner.top, len(cluster_L))):
                best_N1 = mass_NL.argmax(1, keepdim=True)
                chosen.append(cluster_L[best_N1])
                mass_NL = mass_NL.scatter(1, best_N1, -1.0)
        return torch.cat(chosen, 1)

    def _mixed(self, inside_NTK: Tensor, specialist_NTK: Tensor, cluster_NT: Tensor) -> Tensor:
        """The logarithm of the mixture of P_base(class | cluster) and what specialists say, see ``Combiner``. A cluster
        without weight, or of one class, keeps the base's.
        """
        if self.weight == 1 and self.combiner.mixture != "product":
            return specialist_NTK.log_softmax(2)
        weight = self.weight_S[:1] if self.weight is not None else self.weight_S[cluster_NT][..., None]
        if self.combiner.mixture == "arithmetic":
            rest, part = ((share.log().clamp(min=LOG_0)) for share in (1 - weight, weight))
            return torch.logaddexp(inside_NTK + rest, specialist_NTK.log_softmax(2) + part)
        # Logits do for log-probabilities here: they differ by a constant, which the last step takes away.
        base_NTK = inside_NTK if self.combiner.mixture == "product" else (1 - weight) * inside_NTK
        return (base_NTK + weight * specialist_NTK).log_softmax(2)

    def _placed(self, log_NA: Tensor, class_NB: Tensor, value_NB: Tensor, asked_NT: Tensor) -> Tensor:
        """Log-probabilities (N, C) with the values that clusters give their classes; of several values, the mean."""
        n_classes = log_NA.shape[1] - 1
        rest_NA = log_NA if self.combiner.keeps_rest else torch.full_like(log_NA, LOG_0)
        # Of a row that asks some clusters, one that it does not ask has no specialist and says what the base says.
        if not self.overlaps:
            return rest_NA.scatter(1, class_NB, value_NB)[:, :n_classes]
        if not self.all_need:  # it has no part in a mean
            asked_NB = asked_NT.repeat_interleave(self.class_SK.shape[1], 1)
            class_NB = class_NB.masked_fill(~asked_NB, n_classes)
        total_NA = torch.zeros_like(log_NA).scatter_add(1, class_NB, value_NB)
        times_NA = torch.zeros_like(log_NA).scatter_add(1, class_NB, torch.ones_like(value_NB))
        return torch.where(times_NA > 0, total_NA / times_NA.clamp(min=1), rest_NA)[:, :n_classes]

    def _scores(
        self, logits_NC: Tensor, log_proba_NC: Tensor, proba_NC: Tensor, mass_NS: Tensor, cluster_N1: Tensor
    ) -> Tensor:
        def contested_N() -> Tensor:
            inside_NK = F.pad(proba_NC, (0, 1)).gather(1, _of(self.class_SK, cluster_N1))
            return mass_NS.gather(1, cluster_N1)[:, 0] - _lead(inside_NK)

        scores = {
            "entropy": lambda: -(proba_NC * log_proba_NC).sum(1),
            "confidence": lambda: 1 - proba_NC.amax(1),
            "margin": lambda: 1 - _lead(F.pad(proba_NC, (0, 1))),
            "energy": lambda: -logits_NC.logsumexp(1),
            "clusters": lambda: _entropy(mass_NS[:, self.layers[0]]),
            "contested": contested_N,
        }
        if self.gate.model is None or self.coefficient_F is None:
            return scores[self.gate.score]()
        # As ``coterie.routing.gate.features`` has them.
        values = [score() for score in scores.values()]
        first_N, second_N = F.pad(proba_NC, (0, 1)).topk(2, dim=1).values.unbind(1)
        mass_N, stake_N = mass_NS.gather(1, cluster_N1)[:, 0], values[-1]
        values += [mass_N, stake_N / mass_N, *map(_safe_log, (first_N, second_N, mass_N, stake_N))]
        feature_NF = torch.stack(values, 1).to(self.coefficient_F.dtype)
        return (feature_NF * self.coefficient_F).sum(1) + self.gate.model.intercept


def _of(table_SK: Tensor, cluster_NT: Tensor) -> Tensor:
    """The rows of each sample's T clusters one after another, of shape (N, T K)."""
    return table_SK.index_select(0, cluster_NT.flatten()).view(cluster_NT.shape[0], -1)


def _safe_log(values: Tensor) -> Tensor:
    """The logarithm, finite: 0 counts as the least positive number."""
    return values.clamp(min=TINY).log()


def _lead(values_NA: Tensor) -> Tensor:
    """Of the largest value of each row over the second largest."""
    first_N, second_N = values_NA.topk(2, dim=1).values.unbind(1)
    return first_N - second_N


def _entropy(proba_NS: Tensor) -> Tensor:
    return -(proba_NS * _safe_log(proba_NS)).sum(1)
