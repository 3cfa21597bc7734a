"""What every modality's preprocessing is: from what a source or a user has to a network's input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from coterie.errors import InputError
from coterie.inputs.samples import Samples
from coterie.vocabulary import Modality


class Preprocessing(ABC):
    """How samples become a network's input, learned from training samples.

    Each is a frozen dataclass of plain values with a ``kind`` of its own: a run's manifest holds them, and a run is
    loaded from them.
    """

    modality: ClassVar[Modality]
    """The modality of the columns that it takes."""
    by_length: ClassVar[bool] = False
    """Whether a network's work on a batch grows with its longest sample: those of like length are then read together.
    """

    precise: ClassVar[bool] = False
    """Whether inputs are numbers for which the three digits of bf16 would not do, as a column of years: networks on
    them, which are small, are computed in float32 unless the user says otherwise.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, as in ``Samples.shape``."""

    @property
    @abstractmethod
    def wanted(self) -> str:
        """Description of what ``samples`` takes, for messages."""

    @property
    def at_once(self) -> int:
        """Batch size of a network in evaluation."""
        return 500

    @abstractmethod
    def __call__(self, batch: Tensor) -> Tensor:
        """Make a network's input of a batch read by ``Samples.read``, on the batch's device."""

    @abstractmethod
    def example(self) -> Tensor:
        """Two made-up inputs of a network, always the same."""

    @abstractmethod
    def samples(self, raw: Any) -> Samples:
        """Samples of raw data, such as arrays, texts or tables.

        Raises:
            InputError: the data is not as ``wanted``.
        """

    def check(self, raw: Any) -> Samples:
        """Return samples unchanged, or make them of raw data by ``samples``, and check their shape.

        Raises:
            InputError: the data is not as ``wanted``.
        """
        samples = raw if isinstance(raw, Samples) else self.samples(raw)
        if samples.shape != self.shape:
            raise InputError(f"the networks take {self.wanted}; got samples of shape {samples.shape}")
        return samples
