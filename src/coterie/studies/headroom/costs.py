"""What the specialists of a setting take: training and disk."""

from __future__ import annotations

from dataclasses import dataclass

from coterie.pages.format import rough_duration, size
from coterie.studies.headroom.advice import Setting


@dataclass(frozen=True)
class SettingCost:
    """What a setting's specialists take: epochs over the data, seconds and bytes; None where not known."""

    epochs: float
    seconds: float | None
    bytes: int | None

    @property
    def time(self) -> str:
        """``12 min``, or the epochs where no time is known."""
        return f"{self.epochs:.0f} ep." if self.seconds is None else rough_duration(self.seconds)

    def storage(self, setting: Setting) -> str:
        """``68.2 MB``, or how many times the base's where its size is not known."""
        return f"{setting.n_specialists} x" if self.bytes is None else size(self.bytes)


@dataclass(frozen=True)
class SpecialistPrice:
    """What specialists for all classes take.

    ``epochs``: over the training data; ``seconds``: of these epochs, at the speed of the base's own training;
    ``network_bytes``: size of one network. None where nothing is known but logits.
    """

    epochs: int
    seconds: float | None = None
    network_bytes: int | None = None

    def of(self, setting: Setting) -> SettingCost:
        """The cost of a setting: a cluster of one class needs no specialist, so its samples are not trained on."""
        return SettingCost(
            self.epochs * setting.trained_share,
            None if self.seconds is None else self.seconds * setting.trained_share,
            None if self.network_bytes is None else self.network_bytes * setting.n_specialists,
        )
