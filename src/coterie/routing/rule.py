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
    """Who is asked, and what comes out. The paper's is ``Rule(Gate(threshold))``.

    Logits are divided by the temperatures before anything else is done with them.
    """

    gate: Gate
    combiner: Combiner = field(default_factory=lambda: Combiner.named("hard"))
    temperatures: Temperatures = field(default_factory=Temperatures)

    def base_logits(self, logits_NC: FloatArray) -> FloatArray:
        """The base's logits at its temperature; the same values where that is 1."""
        return logits_NC / logits_NC.dtype.type(self.temperatures.base)

    def ask(self, base_logits_NC: FloatArray, partition: Partition) -> Question:
        """From the base's logits to whom each sample asks."""
        return Question(self, BaseAnswer(self.base_logits(base_logits_NC), partition))

    def fallen_back(self, partition: Partition) -> tuple[int, ...]:
        """Clusters whose specialist has no weight: the base answers for them."""
        without = (partition.size_S > 1) & (self.combiner.weights(partition) == 0)
        return tuple(np.flatnonzero(without).tolist())


@dataclass(frozen=True, eq=False)
class Question:
    """What a rule makes of the base's answer, before any specialist is heard."""

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
        """Which clusters each sample asks, were the samples of ``routed_N`` routed. Shape (N, S)."""
        return self.rule.combiner.asked(self.answer, routed_N)

    def extra_passes(self, asked_NS: BoolArray) -> NDArray[np.int64]:
        """How many specialists each sample is passed through: a one-class cluster has none. Shape (N,)."""
        return (asked_NS & self.rule.combiner.needs_specialist(self.answer.partition)).sum(axis=1)

    def combine(self, packed_logits_NM: FloatArray, asked_NS: BoolArray) -> FloatArray:
        """The ensemble's probabilities, of shape (N, C), from the specialists' logits (see Partition), of which only
        those of asked clusters are read.
        """
        temperature_M = self.rule.temperatures.of_columns(self.answer.partition)
        calibrated_NM = packed_logits_NM / temperature_M.astype(packed_logits_NM.dtype)
        return combine(self.rule.combiner, self.answer, calibrated_NM, asked_NS)
