"""The classes of a task and their names."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from coterie.errors import DataError


@dataclass(frozen=True)
class LabelSpace:
    """The C classes of a task, in the order of their indices.

    Raises:
        DataError: fewer than two classes, or a name that occurs twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise DataError(f"a classifier needs at least 2 classes; found {len(self.names)}: {list(self.names)}")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise DataError(f"class names must differ; these occur more than once: {twice[:10]}")

    def __len__(self) -> int:
        return len(self.names)

    def of(self, classes: Sequence[int]) -> tuple[str, ...]:
        """The names of some class indices."""
        return tuple(self.names[k] for k in classes)

    def alike(self) -> list[tuple[str, ...]]:
        """Names that nobody can tell apart: they differ in space around them, or in how Unicode composes letters.

        >>> LabelSpace(("cat", "cat ", "dog")).alike()
        [('cat', 'cat ')]
        """
        seen: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            seen[unicodedata.normalize("NFC", name).strip()].append(name)
        return [tuple(names) for names in seen.values() if len(names) > 1]
