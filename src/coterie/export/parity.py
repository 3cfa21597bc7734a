"""What a kind of exported files is, and how it is compared with the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coterie.arrays import FloatArray
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ExportError
from coterie.inputs import Samples
from coterie.run.folder import FinishedRun


class ExportedFiles(Protocol):
    """The files of one target."""

    def take(self, run: FinishedRun, ensemble: SpecialistEnsemble) -> None:
        """Take what is to be written.

        Raises:
            ExportError: it cannot be.
        """

    def write(self, folder: Path, samples: Samples, head: dict[str, Any]) -> dict[str, Any]:
        """Write the files, and return what describes them, which begins with ``head``.

        Raises:
            ExportError: a network cannot be written so.
        """

    def answers(self, samples: Samples) -> FloatArray:
        """Probabilities (N, C) of samples, by the files and the target's own program."""


@dataclass(frozen=True)
class Parity:
    """The exported files beside the run on real samples, with the target's own program and in float32.

    ``samples``: their number; ``largest_difference``: of a probability; ``changed_answers``: samples of which another
    class is the likeliest.
    """

    samples: int
    largest_difference: float
    changed_answers: int

    @classmethod
    def of(cls, expected_NC: FloatArray, given_NC: FloatArray) -> Parity:
        """Compare the run's probabilities with those of the files.

        Raises:
            ExportError: the files' are NaN or infinite.
        """
        lost = int((~np.isfinite(given_NC)).any(axis=1).sum())
        if lost:
            raise ExportError(f"of {len(given_NC)} test samples, {lost} get probabilities that are NaN or infinite")
        changed = int((given_NC.argmax(axis=1) != expected_NC.argmax(axis=1)).sum())
        return cls(len(given_NC), float(np.abs(given_NC - expected_NC).max()), changed)
