"""The same picture saved twice, and pictures that only look alike."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coterie.data.near import near_rows
from coterie.inputs import MemorySamples
from data_files import encode, load, write_parquet


def photographs(n: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth colours with a few edges, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 6, 3), np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC)) for each in coarse]
    )


def samples(pixels: np.ndarray) -> MemorySamples:
    return MemorySamples(torch.from_numpy(pixels))


def saved(pixels: np.ndarray, quality: int) -> np.ndarray:
    opened = [Image.open(io.BytesIO(encode(Image.fromarray(each), "JPEG", quality=quality))) for each in pixels]
    return np.stack([np.asarray(each) for each in opened])


@pytest.mark.parametrize("quality", [95, 75])
def test_a_picture_that_is_saved_again_is_found_and_no_other(quality: int) -> None:
    pixels = photographs(300)
    again = np.concatenate([saved(pixels[100:200], quality), photographs(50, seed=1)])
    pairs = near_rows(samples(pixels), samples(again))
    assert len(pairs) >= 80
    assert all(row == other + 100 for row, other in pairs)


def test_rows_are_those_of_all_blocks_and_views(monkeypatch: pytest.MonkeyPatch) -> None:
    from coterie.data import near

    monkeypatch.setattr(near, "BLOCKS", (3, 7))
    pixels = photographs(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert near_rows(samples(pixels), samples(pixels).take(order)) == [(int(row), k) for k, row in enumerate(order)]


def test_flat_pictures_and_small_differences_are_no_pairs() -> None:
    flat = np.full((3, 32, 32, 1), 200, np.uint8)
    assert near_rows(samples(flat), samples(flat)) == []
    letter = np.full((1, 32, 32, 1), 255, np.uint8)
    letter[:, 10:24, 12:20] = 0
    accented = letter.copy()
    accented[:, 6:8, 15:18] = 0
    assert near_rows(samples(letter), samples(letter)) == [(0, 0)]
    assert near_rows(samples(letter), samples(accented)) == []
    tinted = np.repeat(letter, 3, 3)
    tinted[..., 0] = np.where(tinted[..., 0] == 255, 195, 60)  # as bright, but for the colour
    tinted[..., 1] = np.where(tinted[..., 1] == 0, 0, 255)
    assert near_rows(samples(np.repeat(letter, 3, 3)), samples(tinted)) == []


@pytest.mark.parametrize("memory_gib", [1, 0])
def test_the_line_about_the_data_counts_them(tmp_path: Path, memory_gib: float) -> None:
    train, test = photographs(20), photographs(4, seed=2)
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 10, [encode(Image.fromarray(each)) for each in train])
    again = [encode(Image.fromarray(each), "JPEG", quality=90) for each in train[:2]]
    write_parquet(tmp_path / "test.parquet", ["a", "b"] * 3, again + [encode(Image.fromarray(each)) for each in test])
    write_parquet(tmp_path / "validation.parquet", ["a", "b"], [encode(Image.fromarray(each)) for each in test[:2]])
    splits = load(f"parquet:{tmp_path}", memory_gib=memory_gib)
    assert splits.about.endswith(
        "images, perhaps encoded anew, that are also in train: 2 of test; images, perhaps encoded anew, of test that "
        "are also in validation, by which rules are chosen: 2"
    )
