from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coterie.config import DataSettings
from coterie.data.cut import cut_missing, stratified_cut
from coterie.data.splits import Split
from coterie.errors import DataError
from coterie.inputs import MemorySamples
from data_files import (
    load,
)


def split_of(labels: list[int]) -> Split:
    """Images whose only pixel is their number."""
    pixels = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return Split(MemorySamples(pixels), torch.tensor(labels))


def numbers(split: Split) -> list[int]:
    return split.samples.read(torch.arange(len(split))).flatten().tolist()


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_row_once_each_class_by_its_share_and_never_to_its_last(
    counts: list[int], share: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    if max(counts) == 1:
        with pytest.raises(DataError, match="class"):
            stratified_cut(labels, share, np.random.default_rng(seed))
        return
    stay, cut = stratified_cut(labels, share, np.random.default_rng(seed))
    assert sorted([*stay, *cut]) == list(range(len(labels)))
    assert len(cut) >= 1
    kept = np.bincount(labels[stay], minlength=len(counts))
    taken = np.bincount(labels[cut], minlength=len(counts))
    assert (kept >= 1).all()
    for count, n_taken in zip(counts, taken, strict=True):
        assert n_taken <= int(np.floor(count * share)) + 1
        assert n_taken >= min(int(np.floor(count * share)), count - 1)


@given(share=st.floats(0.05, 0.9), seed=st.integers(0, 1000))
def test_the_cut_has_the_size_asked_for_where_classes_are_large(share: float, seed: int) -> None:
    labels = np.repeat(np.arange(7), 30)
    _, cut = stratified_cut(labels, share, np.random.default_rng(seed))
    assert len(cut) == round(share * len(labels))


def test_the_same_seed_cuts_the_same_rows_and_another_seed_others() -> None:
    labels = np.repeat(np.arange(5), 20)
    first, again, other = (stratified_cut(labels, 0.3, np.random.default_rng(seed))[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_test_is_cut_before_validation_and_all_are_disjoint() -> None:
    settings = DataSettings(test_share=0.2, validation_share=0.25)
    splits = cut_missing({"train": split_of([0, 1] * 50)}, settings, seed=0)
    assert [len(splits[name]) for name in ("test", "validation", "train")] == [20, 20, 60]
    assert sorted(n for split in splits.values() for n in numbers(split)) == list(range(100))
    for split in splits.values():
        assert torch.bincount(split.labels_N).unique().numel() == 1
        assert [n % 2 for n in numbers(split)] == split.labels_N.tolist()


def test_splits_that_were_found_stay_as_they_are() -> None:
    found = {"train": split_of([0, 1] * 10), "test": split_of([1, 0]), "validation": split_of([0, 1])}
    splits = cut_missing(found, DataSettings(), seed=0)
    assert all(splits[name] is found[name] for name in found)


def test_a_class_with_a_single_image_stays_in_train() -> None:
    splits = cut_missing({"train": split_of([0] * 20 + [1])}, DataSettings(), seed=3)
    assert 1 in splits["train"].labels_N
    assert 1 not in splits["test"].labels_N
    assert 1 not in splits["validation"].labels_N


def test_a_long_tail_is_exponential_in_train_only_and_seeded(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(5), 100)
    np.savez(tmp_path / "all.npz", features=np.arange(500.0)[:, None], labels=labels)
    source = f"features:{tmp_path}/all.npz"
    whole, thin, other = load(source), load(source, imbalance=64), load(source, seed=1, imbalance=64)
    assert torch.bincount(thin.train.labels_N).tolist() == [64, 22, 8, 2, 1]  # 64 * 64 ** (-k / 4)
    assert thin.test.labels_N.tolist() == whole.test.labels_N.tolist()
    kept = {splits: set(splits.train.samples.read(torch.arange(97)).flatten().tolist()) for splits in (thin, other)}
    assert kept[thin] <= set(whole.train.samples.read(torch.arange(320)).flatten().tolist())
    assert kept[thin] != kept[other]
