import json
from pathlib import Path

import numpy as np
import pytest

from coterie.cli import main


def test_a_matrix_is_grouped_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(
        tmp_path / "emb.npy", np.repeat(np.eye(3), 4, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(12, 3))
    )
    out = tmp_path / "out"
    options = ["--clusters", "3", "--method", "average", "--map", "pca", "--stability", "no"]
    assert main(["partition", str(tmp_path / "emb.npy"), "--out", str(out), *options]) == 0
    assert json.loads((out / "partition.json").read_text())["cluster_of_class"] == np.repeat(range(3), 4).tolist()
    assert "12 classes in 3 clusters of 4 to 4 classes" in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", str(tmp_path / "no.npy"), "--out", str(tmp_path / "out")]) == 1
    assert "no.npy" in capsys.readouterr().err
