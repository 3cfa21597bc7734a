from __future__ import annotations

from pathlib import Path

from coterie.inputs import TablePreprocessing
from data_files import KINDS, load, write


def test_the_preprocessing_is_learned_from_train_alone(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"size": [1, 3] * 10, "kind": KINDS})
    write(tmp_path / "test.csv", {"size": [1000], "kind": ["tree"]})
    preprocessing = load(f"csv:{tmp_path}", label="kind").preprocessing
    assert isinstance(preprocessing, TablePreprocessing)
    assert 1.8 < preprocessing.scale.mean[0] < 2.2
