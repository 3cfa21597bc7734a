from pathlib import Path

import numpy as np
import pytest

from coterie.errors import DataError, PartitionError, SettingsError
from coterie.partition import Partition
from coterie.studies.partition.labels import LabelData, read_labels


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    np.save(tmp_path / "emb.npy", np.random.default_rng(0).normal(size=(6, 4)))
    (tmp_path / "names.txt").write_text("\n".join("abcdef"))
    (tmp_path / "groups.txt").write_text("\n".join("xxyyzz"))
    return tmp_path / "emb.npy"


def test_a_matrix_has_vectors_and_numbers_for_names(matrix: Path) -> None:
    data = read_labels(matrix)
    np.testing.assert_array_equal(data.vectors_CD, np.load(matrix))
    assert data.names == tuple("012345")
    assert data.about == "6 label vectors of 4 dimensions from emb.npy."
    assert (data.groups, data.confusion_CC, data.forecast()) == (None, None, None)


def test_names_and_groups_come_from_files(matrix: Path) -> None:
    data = read_labels(matrix, names=str(matrix.parent / "names.txt"), groups=str(matrix.parent / "groups.txt"))
    assert (data.names, data.groups) == (tuple("abcdef"), tuple("xxyyzz"))


def test_logits_tell_what_is_confused(tmp_path: Path) -> None:
    label_N = np.repeat(np.arange(4), 50)
    rng = np.random.default_rng(0)
    logits_NC = rng.normal(size=(200, 4)) + 2 * np.eye(4)[label_N] + 2 * np.eye(4)[label_N ^ 1]
    np.savez(tmp_path / "some.npz", logits_validation=logits_NC, labels_validation=label_N)
    data = read_labels(tmp_path / "some.npz")
    confusion_CC = np.asarray(
        data.confusion_CC.todense() if hasattr(data.confusion_CC, "todense") else data.confusion_CC
    )
    assert confusion_CC.sum() == 200
    forecast = data.forecast()
    assert forecast is not None
    pairs, mixed = (Partition.from_assignment(clusters) for clusters in ([0, 0, 1, 1], [0, 1, 0, 1]))
    assert forecast(pairs) > forecast(mixed)


def test_what_a_file_cannot_give_is_refused(matrix: Path) -> None:
    with pytest.raises(SettingsError, match="--embedding rows: allowed"):
        read_labels(matrix, embedding="rows")
    with pytest.raises(DataError, match="is for run folders and logits"):
        read_labels(matrix, embedding="means")
    with pytest.raises(DataError, match="is for run folders"):
        read_labels(matrix, groups="column:coarse")
    np.save(matrix.parent / "flat.npy", np.ones(5))
    with pytest.raises(PartitionError, match="must be a C x D matrix"):
        read_labels(matrix.parent / "flat.npy")


def test_label_data_is_frozen() -> None:
    data = LabelData("", np.eye(2), ("a", "b"))
    with pytest.raises(AttributeError):
        data.names = ()
