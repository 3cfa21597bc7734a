"""The classes of a task and their names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coterie.errors import DataError

# Characters of no width that copying leaves in names. Joiners, which make other emoji of several, are none of them.
INVISIBLE = (0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFE0F, 0xFEFF)


# Between the words of names that are no text, such as identifiers and paths.
BETWEEN_WORDS = re.compile(r"[_/\\|:.+-]+")


@dataclass(frozen=True)
class LabelSpace:
    """The C classes of a task, in the order of their indices; ``joined``: other spellings that were found, by the name
    that they were joined to.

    Raises:
        DataError: fewer than two classes, or a name that occurs twice.
    """

    names: tuple[str, ...]
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

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

    def texts(self) -> tuple[str, ...]:
        """The names as people would say them: words with spaces between them.

        >>> LabelSpace(("alarm_set", "cat/dog", "_")).texts()
        ('alarm set', 'cat dog', '_')
        """
        return tuple(" ".join(BETWEEN_WORDS.sub(" ", name).split()) or name for name in self.names)

    def alike(self) -> list[tuple[str, ...]]:
        """Names that are the same as ``spelling`` has it.

        >>> LabelSpace(("cat", "cat ", "dog", "Dog", "a", "A")).alike()
        [('cat', 'cat '), ('dog', 'Dog')]
        """
        return [names for names in _by_spelling(self.names) if len(names) > 1]

    def meant(self, name: str) -> str:
        """The class that is spelled like a name; the name itself where there is none, or the very name is a class."""
        alike = {spelling(own): own for own in reversed(self.names)}
        return name if name in self.names else alike.get(spelling(name), name)


def spelling(name: str) -> str:
    """A name without what is no matter to people: space around it, characters of no width, case, and how Unicode
    composes letters. Of single letters, case is kept.

    >>> [spelling(name) for name in (" Cat", "CAT", "a", "A")]
    ['cat', 'cat', 'a', 'A']
    """
    shown = name.translate(dict.fromkeys(INVISIBLE))
    plain = " ".join(unicodedata.normalize("NFC", shown).split())
    return plain.casefold() if len(plain) > 1 else plain


def join_names(counts: Mapping[str, int]) -> dict[str, str]:
    """For each name the one that it is joined to: of those that are spelled alike the commonest, the first of several.

    >>> join_names({"Cat": 3, "cat": 9, "cat ": 1, "dog": 2})
    {'Cat': 'cat', 'cat': 'cat', 'cat ': 'cat', 'dog': 'dog'}
    """
    return {name: max(names, key=counts.__getitem__) for names in _by_spelling(counts) for name in names}


def joined_names(chosen: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The other spellings of each name, as ``LabelSpace.joined``, of what ``join_names`` gives."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, own in chosen.items():
        if name != own:
            found[own].append(name)
    return {own: tuple(names) for own, names in found.items()}


def _by_spelling(names: Iterable[str]) -> list[tuple[str, ...]]:
    seen: dict[str, list[str]] = defaultdict(list)
    for name in names:
        seen[spelling(name)].append(name)
    return list(map(tuple, seen.values()))
