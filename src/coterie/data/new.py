"""New samples for a trained ensemble, as the command line names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coterie.data.decode import read_images
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples


@dataclass(frozen=True, eq=False)
class New:
    """Samples, a name for each of them, and what was left out and why."""

    samples: Samples
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def read_new(preprocessing: Preprocessing, arguments: Sequence[str], *, skip_broken: bool = False) -> New:
    """Read what the networks of a run take: image files.

    Args:
        preprocessing: the run's.
        arguments: names of files.
        skip_broken: leave out what cannot be read.

    Raises:
        DataError: a file is missing or broken (named), unless ``skip_broken``; or nothing is left.
    """
    if isinstance(preprocessing, ImagePreprocessing):
        images, kept, skipped = read_images([Path(name) for name in arguments], preprocessing, skip_broken=skip_broken)
        return New(images, tuple(map(str, kept)), skipped)
    raise AssertionError(f"no files for {preprocessing}")
