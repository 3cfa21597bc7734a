from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from coterie import data
from coterie.config import DataSettings
from coterie.errors import DataError
from coterie.labels import LabelSpace


def test_generated_data_have_no_columns() -> None:
    with pytest.raises(DataError, match=r"glyphs has no column 'coarse' for groups; files and the hub may"):
        data.read_groups(DataSettings(), "coarse", LabelSpace(("a", "b")))


def test_a_given_mean_and_spread_take_the_place_of_measured_ones() -> None:
    splits = data.load(DataSettings(train_per_class=2, mean=(0.5,), std=(0.25,)), 0)
    assert splits.preprocessing.mean == (127.5,)
    pixels = torch.full((1, 32, 32, 1), 255, dtype=torch.uint8)
    torch.testing.assert_close(splits.preprocessing(pixels), torch.full((1, 1, 32, 32), 2.0))
    with pytest.raises(DataError, match=r"data.mean has 3 numbers; the images have 1 channel"):
        data.load(DataSettings(train_per_class=2, mean=(0.5,) * 3, std=(0.25,) * 3), 0)


def test_classes_that_look_alike_are_named(tmp_path: Path) -> None:
    names = ["cat", "cat ", "caf\u00e9", "cafe\u0301", "Cat"]
    rows = [f"{k}.{row},{name}" for row in range(20) for k, name in enumerate(names)]
    (tmp_path / "rows.csv").write_text("\n".join(["size,label", *rows]), encoding="utf-8")
    about = data.load(DataSettings(source=f"csv:{tmp_path / 'rows.csv'}", label="label"), 0).about
    alike = r"2 groups of classes look alike: 'Cat' and 'cat' and 'cat '; 'cafe\u0301' and 'caf\xe9'"
    assert f"{alike} (--data.merge-names joins them)" in about


def test_rows_that_splits_share_are_counted(tmp_path: Path) -> None:
    value_ND, label_N = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 4
    parts = {"train": np.arange(24), "validation": np.array([0, 1, 2, 24, 25, 26, 27]), "test": np.arange(24, 40)}
    arrays = {f"{name}_features": value_ND[rows] for name, rows in parts.items()}
    np.savez(tmp_path / "a.npz", **arrays, **{f"{name}_labels": label_N[rows] for name, rows in parts.items()})
    splits = data.load(DataSettings(source=f"features:{tmp_path / 'a.npz'}"), 0)
    shared = (
        "rows that are also in train: 3 of validation; rows of test that are also in validation, by which rules are "
        "chosen: 4"
    )
    assert splits.about.endswith(shared)
    assert splits.n_in_validation == 4
    # A run that is loaded again has said so.
    again = data.load(DataSettings(source=f"features:{tmp_path / 'a.npz'}"), 0, splits.preprocessing)
    assert shared not in again.about
