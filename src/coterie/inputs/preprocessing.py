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
    """What columns of a data source it takes."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one sample, as ``Samples.shape`` has it."""

    @property
    @abstractmethod
    def wanted(self) -> str:
        """The form of what ``samples`` takes, for messages."""

    @property
    def at_once(self) -> int:
        """Samples that a network is asked about at once, where nothing is trained."""
        return 500

    @abstractmethod
    def __call__(self, batch: Tensor) -> Tensor:
        """From what ``Samples.read`` gives to a network's input, on the batch's device."""

    @abstractmethod
    def example(self) -> Tensor:
        """Two made-up inputs of a network, always the same."""

    @abstractmethod
    def samples(self, raw: Any) -> Samples:
        """New samples out of what a user has in Python.

        Raises:
            InputError: it has another form than is ``wanted``.
        """

    def check(self, raw: Any) -> Samples:
        """Samples as they are, if they have the right shape; anything else through ``samples``.

        Raises:
            InputError: it has another form than is ``wanted``.
        """
        samples = raw if isinstance(raw, Samples) else self.samples(raw)
        if samples.shape != self.shape:
            raise InputError(f"the networks take {self.wanted}; got samples of shape {samples.shape}")
        return samples
