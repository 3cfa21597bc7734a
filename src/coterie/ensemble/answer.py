"""A rule as tensor operations: whom to ask and what comes of it, on the device where the networks are.

``coterie.routing`` says the same in arrays, and is the reference: probabilities agree to 1e-6. All shapes follow from
the rule, the partition and the number of rows, and none from values, so that the operations can be exported as a graph.
For a single sample each operation costs more than its arithmetic, so there are few of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.partition import Partition
from coterie.routing.gate import SCORES
from coterie.routing.rule import Rule
from coterie.vocabulary import ScoreName

TINY = torch.finfo(torch.float32).tiny
LOG_TINY = math.log(TINY)
# The logarithm of 0, finite: times a weight of 0, or in a gradient, infinity would be NaN. Divided by a temperature it
# has to be finite too.
LOG_0 = torch.finfo(torch.float32).min / 1000
# The rows of a single sample.
FIRST = np.zeros(1, dtype=np.int64)


@dataclass(eq=False, slots=True)  # not frozen: to set nine frozen fields takes as long as an operation
class TensorQuestion:
    """A rule applied to the base's logits of N samples, before any specialist is run.

    ``logits_NC``: at the base's temperature; ``proba_NC``: their softmax; ``score_N``: the gate's; ``routed_N``:
    whether it reached the threshold; ``cluster_NT``: the T likeliest clusters of each sample, the first of which is the
    likeliest of all; ``mass_NT``: their probabilities; ``asked_NT``: whether it asks them; ``runs_NT``: whether their
    specialists are run for it.
    """

    logits_NC: Tensor
    proba_NC: Tensor
    score_N: Tensor
    routed_N: Tensor
    cluster_NT: Tensor
    mass_NT: Tensor
    asked_NT: Tensor
    runs_NT: Tensor

    @property
    def asks_N1(self) -> Tensor:
        """Whether a sample asks any cluster, of shape (N, 1)."""
        return self.asked_NT if self.asked_NT.shape[1] == 1 else self.asked_NT.any(1, keepdim=True)

    def plan(self) -> Plan:
        """What the CPU has to know to have specialists run; one transfer from the device."""
        parts = [self.logits_NC.detach().sum(), self.cluster_NT, self.asked_NT, self.runs_NT]
        if not parts[0].is_cpu:
            # As float32, which holds the number of any cluster.
            packed = torch.cat([part.flatten() for part in parts]).cpu().split([part.numel() for part in parts])
            parts = [values.view(part.shape) for values, part in zip(packed, parts, strict=True)]
        total = parts[0]
        if len(self.cluster_NT) == 1:  # of which numpy would take longer than a small network's pass
            cluster_T, asked_T, runs_T = (part.tolist()[0] for part in parts[1:])
            only = {int(cluster): FIRST for cluster, runs in zip(cluster_T, runs_T, strict=True) if runs}
            return Plan(dict(sorted(only.items())), bool(only) or any(asked_T), math.isfinite(total))
        cluster_NT, asked_NT, runs_NT = (part.numpy() for part in parts[1:])
        runs_NT = runs_NT.astype(bool, copy=False)
        # By cluster, and of each its rows in order; a sample has each cluster at most once.
        cluster_P, row_P = cluster_NT[runs_NT].astype(np.int64, copy=False), runs_NT.nonzero()[0]
        order_P = cluster_P.argsort(kind="stable")
        cluster_P, row_P = cluster_P[order_P], row_P[order_P]
        starts = np.flatnonzero(np.diff(cluster_P, prepend=-1)).tolist()
        rows = {int(cluster_P[start]): row_P[start:end] for start, end in pairwise([*starts, len(row_P)])}
        return Plan(rows, bool(rows) or bool(asked_NT.any()), math.isfinite(total))


@dataclass(frozen=True)
class Plan:
    """The rows that each specialist is run for; whether any row asks a cluster, with a specialist or without; and
    whether the sum of the base's logits is finite, as it is if the logits are, unless these are enormous.
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

        # As exact as the reference, where the device knows such numbers.
        exact = torch.float32 if device is not None and device.type == "mps" else torch.float64
        self.gate, self.combiner = rule.gate, rule.combiner
        # Numbers as tensors: torch makes one of a Python number in each operation, which takes as long again.
        self.threshold = tensor(rule.gate.threshold, torch.float32 if rule.gate.model is None else exact)
        self.base_temperature, self.temperature = (
            None if temperature == 1 else tensor(temperature, torch.float32)
            for temperature in (rule.temperatures.base, rule.combiner.temperature)
        )
        size_S, class_M = partition.size_S, partition.packed_class_M
        cluster_M = np.repeat(np.arange(len(size_S)), size_S)
        self.n_clusters, self.n_columns, self.overlaps = len(size_S), len(class_M), partition.overlaps
        self.size_S, self.start_S = size_S, np.cumsum(size_S) - size_S
        self.class_M, self.cluster_M = tensor(class_M), tensor(cluster_M)
        self.classes = self.class_M.split(size_S.tolist())
        self.cluster_C = tensor(partition.cluster_of_class_C)
        self.layers = [tensor(cluster_L) for cluster_L in partition.layers]
        place_SK = np.arange(max(2, size_S.max()))[None, :]
        # Behind the last class, and the last column, there is one for what is padded.
        column_SK = np.where(place_SK < size_S[:, None], self.start_S[:, None] + place_SK, len(class_M))
        class_SK = np.append(class_M, partition.n_classes)[column_SK]
        # Picked by one operation.
        self.class_and_column_SK = tensor([class_SK, column_SK])
        self.class_SK = self.class_and_column_SK[0]
        needs_S, weight_S = self.combiner.needs_specialist(partition), self.combiner.weights(partition)
        self.all_need, self.needs_S = bool(needs_S.all()), tensor(needs_S, torch.bool)
        self.weight_S = tensor(weight_S, torch.float32)
        # One of all clusters.
        self.weight = self.weight_S[0] if len(set(weight_S.tolist())) == 1 else None
        self.alone = bool((weight_S == 1).all()) and rule.combiner.mixture != "product"
        heated = any(temperature != 1 for temperature in rule.temperatures.specialist_S)
        temperature_A = np.append(rule.temperatures.of_columns(partition), 1)
        self.temperature_A = tensor(temperature_A, torch.float32) if heated else None
        self.coefficient_F = None if self.gate.model is None else tensor(self.gate.model.coefficients, exact)

    def ask(self, base_logits_NC: Tensor) -> TensorQuestion:
        """Apply the rule to the base's logits, float32 of shape (N, C), before any specialist is run."""
        logits_NC = base_logits_NC if self.base_temperature is None else base_logits_NC / self.base_temperature
        proba_NC = logits_NC.softmax(1)
        # Column by column and not by a product of matrices, which some devices compute in less than float32.
        n_rows = proba_NC.shape[0]
        cluster_C, part_NC = (
            (self.cluster_M, proba_NC.index_select(1, self.class_M)) if self.overlaps else (self.cluster_C, proba_NC)
        )
        mass_NS = proba_NC.new_zeros(n_rows, self.n_clusters).scatter_add_(1, cluster_C.expand(n_rows, -1), part_NC)
        mass_NT, cluster_NT = self._likeliest(mass_NS)
        score_N = self._scores(logits_NC, proba_NC, mass_NS, mass_NT, cluster_NT)
        routed_N = score_N >= self.threshold
        asked_NT = routed_N.unsqueeze(1)
        if cluster_NT.shape[1] > 1:
            asked_NT = asked_NT.expand(-1, cluster_NT.shape[1])
        runs_NT = asked_NT if self.all_need else asked_NT & self.needs_S[cluster_NT]
        # Without the rest, a cluster without a specialist changes the result too: the other classes get 0.
        asked_NT = runs_NT if self.combiner.keeps_rest else asked_NT
        return TensorQuestion(logits_NC, proba_NC, score_N, routed_N, cluster_NT, mass_NT, asked_NT, runs_NT)

    def no_answers(self, base_NC: Tensor) -> Tensor:
        """Packed logits (see Partition) of specialists before any is run, of shape (N, M + 1): zeros, of which the only
        class of a cluster gets all of its probability, and a last column, none's, that clusters are padded with.
        """
        return F.pad(base_NC.new_zeros(base_NC.shape[0], self.n_columns), (0, 1), value=LOG_0)

    def packed(self, base_NC: Tensor, plan: Plan, answer_V: Tensor | None) -> Tensor:
        """``no_answers`` with the logits of the specialists that were run, if any: in the plan's order, row by row."""
        packed_NA = self.no_answers(base_NC)
        if answer_V is not None:
            row_P = np.concatenate(list(plan.rows.values()))
            cluster_P = np.repeat(list(plan.rows), [len(row_R) for row_R in plan.rows.values()])
            size_P = self.size_S[cluster_P]
            # Where the first logit of each answer lies in the flattened array, and those after it.
            first_P = row_P * (self.n_columns + 1) + self.start_S[cluster_P]
            place_V = np.arange(size_P.sum()) + np.repeat(first_P - (size_P.cumsum() - size_P), size_P)
            packed_NA.view(-1).scatter_(0, torch.from_numpy(place_V).to(base_NC.device), answer_V)
        return packed_NA

    def combine(self, question: TensorQuestion, packed_NA: Tensor) -> Tensor:
        """The ensemble's probabilities, of shape (N, C), rows summing to 1. A row that asks no cluster is the base's.

        Args:
            question: by ``ask``.
            packed_NA: ``no_answers`` with the specialists' logits, finite also where none was run.
        """
        proba_NC = self._combined_logits(question, packed_NA).softmax(1)
        return torch.where(question.asks_N1, proba_NC, question.proba_NC)

    def combine_logits(self, question: TensorQuestion, packed_NA: Tensor) -> Tensor:
        """Finite values of shape (N, C) whose softmax ``combine`` gives. A row that asks no cluster is the base's; at
        least one asks.
        """
        log_NC = self._finite(self._combined_logits(question, packed_NA))
        return log_NC if log_NC.shape[0] == 1 else torch.where(question.asks_N1, log_NC, question.logits_NC)

    def combine_logits_of_one(self, question: TensorQuestion, plan: Plan, answer_K: Tensor) -> Tensor:
        """``combine_logits`` of a single sample that asks one cluster of one partition: nothing is packed or padded."""
        (cluster,) = plan.rows
        if self.temperature_A is not None:
            answer_K = answer_K / self.temperature_A[self.start_S[cluster]]
        class_K, log_1C = self.classes[cluster], question.logits_NC.log_softmax(1)
        base_1K = log_1C.index_select(1, class_K)
        weight = self.weight_S[cluster] if self.weight is None else self.weight
        value_1K = self._mixed(base_1K, answer_K.view(1, -1), weight) + question.mass_NT.log()
        log_1C = log_1C if self.combiner.keeps_rest else torch.full_like(log_1C, LOG_0)
        return self._finite(self._cooled(log_1C.index_copy(1, class_K, value_1K)))

    def _finite(self, log_NC: Tensor) -> Tensor:
        """Where classes outside get 0, the least logarithm that a probability has in its place."""
        return log_NC if self.combiner.keeps_rest else log_NC.log_softmax(1).clamp(min=LOG_TINY)

    def _cooled(self, log_NC: Tensor) -> Tensor:
        """At the combiner's temperature."""
        return log_NC if self.temperature is None else log_NC / self.temperature

    def _combined_logits(self, question: TensorQuestion, packed_NA: Tensor) -> Tensor:
        cluster_NT = question.cluster_NT
        shape = (*cluster_NT.shape, self.class_SK.shape[1])
        both_B = self.class_and_column_SK.index_select(1, cluster_NT.flatten())
        class_NB, column_NB = both_B.view(2, cluster_NT.shape[0], -1).unbind()
        # In logarithms throughout: in float32, products of small probabilities would become 0.
        log_NA = F.pad(question.logits_NC.log_softmax(1), (0, 1), value=LOG_0)
        base_NTK = log_NA.gather(1, class_NB).view(shape)
        heated_NA = packed_NA if self.temperature_A is None else packed_NA / self.temperature_A
        specialist_NTK = heated_NA.gather(1, column_NB).view(shape)
        weight = self.weight_S[cluster_NT][..., None] if self.weight is None else self.weight
        value_NTK = self._mixed(base_NTK, specialist_NTK, weight) + self._log_mass(question.mass_NT, base_NTK)
        return self._cooled(self._placed(log_NA, class_NB, value_NTK.flatten(1), question.asked_NT))

    def _log_mass(self, mass_NT: Tensor, base_NTK: Tensor) -> Tensor:
        """The logarithm of each cluster's probability, of shape (N, T, 1)."""
        if self.combiner.top == 1:  # the likeliest cluster's is at least 1 / S
            return mass_NT.log().unsqueeze(2)
        # Of the sum that a softmax divides by, at the largest value, where it is exact to a float32.
        return base_NTK.amax(2, keepdim=True) - base_NTK.log_softmax(2).amax(2, keepdim=True)

    def asked_NS(self, question: TensorQuestion) -> Tensor:
        """Which clusters each sample asks, of shape (N, S)."""
        return self._marked(question, question.asked_NT)

    def ran_NM(self, question: TensorQuestion) -> Tensor:
        """Which packed columns hold an answer that was asked for, of shape (N, M)."""
        return self._marked(question, question.runs_NT)[:, self.cluster_M]

    def _marked(self, question: TensorQuestion, mark_NT: Tensor) -> Tensor:
        none_NS = mark_NT.new_zeros(mark_NT.shape[0], self.n_clusters)
        return none_NS.scatter(1, question.cluster_NT, mark_NT)

    def _likeliest(self, mass_NS: Tensor) -> tuple[Tensor, Tensor]:
        """Masses and numbers of the likeliest clusters of each partition, (N, T); of equals, the first."""
        if len(self.layers) == 1 and self.combiner.top == 1:
            return mass_NS.max(1, keepdim=True)
        masses, chosen = [], []
        for cluster_L in self.layers:
            mass_NL = mass_NS[:, cluster_L]
            for _ in range(min(self.combiner.top, len(cluster_L))):
                mass_N1, best_N1 = mass_NL.max(1, keepdim=True)
                masses.append(mass_N1)
                chosen.append(cluster_L[best_N1])
                mass_NL = mass_NL.scatter(1, best_N1, -1.0)
        return torch.cat(masses, 1), torch.cat(chosen, 1)

    def _mixed(self, base_K: Tensor, specialist_K: Tensor, weight: Tensor) -> Tensor:
        """The logarithm of the mixture of P_base(class | cluster), of which ``base_K`` are logits, and what specialists
        say, over the last axis, see ``Combiner``. A cluster without weight, or of one class, keeps the base's.
        """
        if self.alone:
            return specialist_K.log_softmax(-1)
        if self.combiner.mixture == "arithmetic":
            rest, part = ((share.log().clamp(min=LOG_0)) for share in (1 - weight, weight))
            return torch.logaddexp(base_K.log_softmax(-1) + rest, specialist_K.log_softmax(-1) + part)
        # Logits do for log-probabilities here: they differ by a constant, which the last step takes away.
        if self.combiner.mixture == "product":
            return (base_K + weight * specialist_K).log_softmax(-1)
        return base_K.lerp(specialist_K, weight).log_softmax(-1)

    def _placed(self, log_NA: Tensor, class_NB: Tensor, value_NB: Tensor, asked_NT: Tensor) -> Tensor:
        """Log-probabilities (N, C) with the values that clusters give their classes; of several values, the mean."""
        n_classes = log_NA.shape[1] - 1
        rest_NA = log_NA if self.combiner.keeps_rest else torch.full_like(log_NA, LOG_0)
        # Of a row that asks some clusters, one that it does not ask has no specialist and says what the base says.
        if not self.overlaps:
            return rest_NA.scatter(1, class_NB, value_NB).narrow(1, 0, n_classes)
        if not self.all_need:  # it has no part in a mean
            asked_NB = asked_NT.repeat_interleave(self.class_SK.shape[1], 1)
            class_NB = class_NB.masked_fill(~asked_NB, n_classes)
        total_NA = torch.zeros_like(log_NA).scatter_add(1, class_NB, value_NB)
        times_NA = torch.zeros_like(log_NA).scatter_add(1, class_NB, torch.ones_like(value_NB))
        return torch.where(times_NA > 0, total_NA / times_NA.clamp(min=1), rest_NA)[:, :n_classes]

    def _scores(self, *answer: Tensor) -> Tensor:
        """The gate's scores of ``answer``, which ``_score`` takes."""
        if self.gate.model is None or self.coefficient_F is None:
            return self._score(self.gate.score, *answer)
        # As ``coterie.routing.gate.features`` has them.
        values = [self._score(name, *answer) for name in SCORES]
        _, proba_NC, _, mass_NT, _ = answer
        first_N, second_N = F.pad(proba_NC, (0, 1)).topk(2, dim=1).values.unbind(1)
        mass_N, stake_N = mass_NT[:, 0], values[-1]
        values += [mass_N, stake_N / mass_N, *map(_safe_log, (first_N, second_N, mass_N, stake_N))]
        feature_NF = torch.stack(values, 1).to(self.coefficient_F.dtype)
        return (feature_NF * self.coefficient_F).sum(1) + self.gate.model.intercept

    def _score(
        self,
        name: ScoreName,
        logits_NC: Tensor,
        proba_NC: Tensor,
        mass_NS: Tensor,
        mass_NT: Tensor,
        cluster_NT: Tensor,
    ) -> Tensor:
        """See ``coterie.routing.gate.SCORES``."""
        if name == "entropy":
            return torch.special.entr(proba_NC).sum(1)
        if name == "confidence":
            return 1 - proba_NC.amax(1)
        if name == "margin":
            return 1 - _lead(F.pad(proba_NC, (0, 1)))
        if name == "energy":
            return -logits_NC.logsumexp(1)
        if name == "clusters":
            return torch.special.entr(mass_NS[:, self.layers[0]]).sum(1)
        inside_NK = F.pad(proba_NC, (0, 1)).gather(1, _of(self.class_SK, cluster_NT[:, :1]))
        return mass_NT[:, 0] - _lead(inside_NK)


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
