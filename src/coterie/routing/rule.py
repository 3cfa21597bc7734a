"""The rule of an ensemble: temperatures, gate and combiner in one value. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coterie.arrays import BoolArray, FloatArray
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import BaseAnswer, Combiner, combine
from coterie.routing.gate import Gate


@dataclass(frozen=True)
class Rule:
    """Which clusters a sample asks, and how the answers are combined. The paper's rule is ``Rule(Gate(threshold))``.

    Logits are divided by the temperatures first.
    """

    gate: Gate
    combiner: Combiner = field(default_factory=lambda: Combiner.named("hard"))
    temperatures: Temperatures = field(default_factory=Temperatures)

    def base_logits(self, logits_NC: FloatArray) -> FloatArray:
        """The base's logits at its temperature; the same values where that is 1."""
        return logits_NC / logits_NC.dtype.type(self.temperatures.base)

    def ask(self, base_logits_NC: FloatArray, partition: Partition) -> Question:
        """Apply the rule to the base's logits, before any specialist is run."""
        return Question(self, BaseAnswer(self.base_logits(base_logits_NC), partition))

    def fallen_back(self, partition: Partition) -> tuple[int, ...]:
        """Clusters whose specialist has no weight: the base answers for them."""
        without = (partition.size_S > 1) & (self.combiner.weights(partition) == 0)
        return tuple(np.flatnonzero(without).tolist())


@dataclass(frozen=True, eq=False)
class Question:
    """A rule applied to the base's answer, before any specialist is run."""

    rule: Rule
    answer: BaseAnswer

    @cached_property
    def score_N(self) -> FloatArray:
        """The gate's score of each sample."""
        return self.rule.gate.scores(self.answer)

    @cached_property
    def routed_N(self) -> BoolArray:
        """Which samples reach the gate's threshold."""
        return self.score_N >= self.rule.gate.threshold

    def asked(self, routed_N: BoolArray) -> BoolArray:
        """Which clusters each sample asks if the samples of ``routed_N`` are routed, of shape (N, S)."""
        return self.rule.combiner.asked(self.answer, routed_N)

    def extra_passes(self, asked_NS: BoolArray) -> NDArray[np.int64]:
        """Number of specialists that each sample passes through, of shape (N,); a one-class cluster has none."""
        return (asked_NS & self.rule.combiner.needs_specialist(self.answer.partition)).sum(axis=1)

    def combine(self, packed_logits_NM: FloatArray, asked_NS: BoolArray) -> FloatArray:
        """The ensemble's probabilities, of shape (N, C).

        Args:
            packed_logits_NM: the specialists' logits (see Partition); only those of asked clusters are read.
            asked_NS: which clusters each sample asks.
        """
        # The temperatures take the logits' type: float64 would double the memory of all that follows.
        temperature_M = self.rule.temperatures.of_columns(self.answer.partition)
        calibrated_NM = packed_logits_NM / temperature_M.astype(packed_logits_NM.dtype)
        return combine(self.rule.combiner, self.answer, calibrated_NM, asked_NS)
