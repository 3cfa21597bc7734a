"""Samples that two splits share, found by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from coterie.data.splits import Splits
from coterie.errors import DataError
from coterie.inputs import Samples
from coterie.system.units import how_many

ROWS_AT_ONCE = 512
NAMED = 10


def shared_rows(first: Samples, second: Samples) -> list[tuple[int, int]]:
    """Pairs of rows, one of each, that hold the same."""
    # Digests, not samples: both splits need not be in memory.
    rows_of: dict[bytes, list[int]] = {}
    for row, digest in enumerate(sample_digests(first)):
        rows_of.setdefault(digest, []).append(row)
    return [(row, other) for other, digest in enumerate(sample_digests(second)) for row in rows_of.get(digest, ())]


def describe_shared(what: str, in_train: Mapping[str, int], in_both: int) -> list[str]:
    """Notes on how many samples of validation and test are also in train, and how many of test also in validation."""
    shown = ", ".join(f"{number:,} of {split}" for split, number in in_train.items() if number)
    notes = [f"{what} that are also in train: {shown}"] if shown else []
    if in_both:
        notes.append(f"{what} of test that are also in validation, by which rules are chosen: {in_both:,}")
    return notes


def refuse_shared(splits: Splits, allowed: bool) -> list[str]:
    """What the test split shares with the others, in words.

    Raises:
        DataError: it shares samples with validation, on which choices are made, and that is not allowed.
    """
    notes = []
    for name in ("train", "validation"):
        pairs = shared_rows(getattr(splits, name).samples, splits.test.samples)
        if not pairs:
            continue
        named = ", ".join(f"{name} {row} = test {other}" for row, other in pairs[:NAMED])
        more = f" and {len(pairs) - NAMED:,} more" if len(pairs) > NAMED else ""
        note = f"{name} and test share {how_many(len(pairs), 'sample')} (rows {named}{more})"
        if name == "validation" and not allowed:
            raise DataError(
                f"{note}. What is chosen on validation would be judged on the same samples; "
                "allow it with --allow-shared if they are too few to matter"
            )
        notes.append(note + ".")
    return notes


def sample_digests(samples: Samples) -> list[bytes]:
    """Of each sample's values 16 bytes, by which equal ones are found."""
    ragged = -1 in samples.shape
    return [
        # How far a short sample is padded depends on those that are read with it.
        hashlib.blake2b((sample[sample >= 0] if ragged else sample).numpy().tobytes(), digest_size=16).digest()
        for rows in torch.arange(len(samples)).split(ROWS_AT_ONCE)
        for sample in samples.read(rows)
    ]
