import os
from pathlib import Path

import numpy as np
import pytest

from coterie.cli import main
from coterie.errors import InputError
from coterie.logits_file import LabelledLogits, read_logits


def arrays(n: int = 40, n_classes: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {}
    for split in ("validation", "test"):
        label_N = rng.integers(n_classes, size=n)
        found[f"labels_{split}"] = label_N
        found[f"logits_{split}"] = (2 * np.eye(n_classes)[label_N] + rng.normal(size=(n, n_classes))).astype(np.float32)
    return found


def write(tmp_path: Path, **changes: np.ndarray | None) -> Path:
    kept = {name: value for name, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(tmp_path / "logits.npz", **kept)
    return tmp_path / "logits.npz"


def test_validation_and_test_are_read_with_further_classifiers(tmp_path: Path) -> None:
    mine = arrays()["logits_validation"] + 1
    validation, test = read_logits(write(tmp_path, logits_validation_mine=mine))
    np.testing.assert_array_equal(validation.logits_NC, arrays()["logits_validation"])
    np.testing.assert_array_equal(validation.others_NC["mine"], mine)
    assert test is not None
    assert test.others_NC == {}


def test_test_may_be_missing_and_whole_floats_are_labels(tmp_path: Path) -> None:
    label_N = arrays()["labels_validation"].astype(np.float64)
    validation, test = read_logits(write(tmp_path, logits_test=None, labels_test=None, labels_validation=label_N))
    assert test is None
    assert validation.label_N.dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels_validation": None}, "has no array labels_validation; it has: labels_test"),
        ({"labels_validation": np.arange(3)}, "40 rows and there are 3 labels"),
        ({"labels_validation": np.full(40, 5)}, "label 5 is not a class"),
        ({"labels_validation": np.full(40, -1)}, "label -1 is not a class"),
        ({"labels_validation": np.full(40, 0.5)}, "whole numbers"),
        ({"labels_validation": np.full(40, "cat")}, "are texts"),
        ({"logits_validation": np.full((40, 5), np.nan)}, "row 0 has a NaN"),
        ({"logits_validation": np.ones((40, 1))}, "C at least 2"),
        ({"logits_validation": np.ones((40, 5), dtype=int)}, "floating-point"),
        (
            {"logits_validation": np.full((40, 5), 0.2)},
            "one kind of values for all splits; there are in logits_test logits, logits_validation probabilities",
        ),
        ({"logits_validation_mine": np.full((40, 5), -np.inf)}, "row 0 has a NaN or an infinite"),
        ({"logits_validation_mine": np.ones((40, 4)) * 3}, "mine has 4 classes; the base has 5"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_logits(write(tmp_path, **changes))


def test_files_that_are_no_archive_of_plain_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "plain.npy", np.ones(3))
    np.savez(tmp_path / "pickled.npz", logits_validation=np.array([{}], dtype=object))
    for name in ("text.npz", "plain.npy", "pickled.npz", "missing.npz"):
        with pytest.raises(InputError, match="not a file of logits" if name == "plain.npy" else "cannot read"):
            read_logits(tmp_path / name)


def votes(n: int, seed: int, dtype: type = np.float64) -> np.ndarray:
    """Shares of 20 trees: some classes have none."""
    counts = np.random.default_rng(seed).multinomial(20, [0.7, 0.2, 0.1, 0.0, 0.0], size=n)
    return (counts / 20).astype(dtype)


def test_of_probabilities_logarithms_are_taken_and_zeros_weigh_less_than_half_a_vote(tmp_path: Path) -> None:
    validation_NC, test_NC = votes(40, 0), votes(40, 1, np.float32)
    validation, test = read_logits(write(tmp_path, logits_validation=validation_NC, logits_test=test_NC))
    assert test is not None
    for logits_NC, proba_NC in ((validation.logits_NC, validation_NC), (test.logits_NC, test_NC)):
        there = proba_NC > 0
        np.testing.assert_allclose(np.exp(logits_NC[there]), proba_NC[there], rtol=1e-6)
        np.testing.assert_allclose(np.exp(logits_NC[~there]), 1 / 20 / 2 / 5, rtol=1e-5)
        assert logits_NC.dtype == proba_NC.dtype
    assert validation.notes == (
        "logits_test and logits_validation hold probabilities: taken are their logarithms, 0.005 in place of 0",
    )


def test_percentages_and_logarithms_of_zeros_are_the_same(tmp_path: Path) -> None:
    wanted, _ = read_logits(write(tmp_path, logits_validation=votes(40, 0), logits_test=None, labels_test=None))
    with np.errstate(divide="ignore"):
        logs = np.log(votes(40, 0))
    for kind, values in (("percentages", 100 * votes(40, 0)), ("logarithms of probabilities", logs)):
        found, _ = read_logits(write(tmp_path, logits_validation=values, logits_test=None, labels_test=None))
        np.testing.assert_allclose(found.logits_NC, wanted.logits_NC, rtol=1e-12)
        assert f"hold {kind}: taken are" in found.notes[0]


def test_each_classifier_is_looked_at_by_itself(tmp_path: Path) -> None:
    logits_NC = arrays()["logits_validation"]
    found, _ = read_logits(write(tmp_path, logits_validation_forest=votes(40, 0) * 0.8 + 0.04))
    np.testing.assert_array_equal(found.logits_NC, logits_NC)
    np.testing.assert_allclose(found.others_NC["forest"], np.log(votes(40, 0) * 0.8 + 0.04))
    assert found.notes == ("logits_validation_forest hold probabilities: taken are their logarithms",)
    smooth = arrays()["logits_validation"] - 100  # finite logarithms, and logits that are all negative, are logits
    assert read_logits(write(tmp_path, logits_validation=smooth))[0].notes == ()


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="0 rows"):
        LabelledLogits(np.empty((0, 3)), np.empty(0, dtype=np.int64))


def test_the_command_compares_stored_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--logits", str(write(tmp_path))]) == 0
    out = capsys.readouterr().out
    assert "base, calibrated" in out
    assert main(["compare", "--logits", str(write(tmp_path, logits_test=None, labels_test=None))]) == 1
    assert "has no logits_test" in capsys.readouterr().err
    assert main(["compare"]) == 1
    assert "one of them" in capsys.readouterr().err


def test_percentages_masks_and_complex_numbers_are_no_logits() -> None:
    share_NC = np.random.default_rng(0).dirichlet([1] * 5, 40).astype(np.float32)
    with pytest.raises(
        InputError, match=r"logits are percentages \(each row sums to 100\), not logits; divide them by"
    ):
        LabelledLogits((100 * share_NC).round(1), np.zeros(40, np.int64))
    with pytest.raises(InputError, match="logits are probabilities"):
        LabelledLogits(share_NC.astype(np.float16), np.zeros(40, np.int64))
    with pytest.raises(InputError, match="masked array"):
        LabelledLogits(np.ma.masked_array(share_NC), np.zeros(40, np.int64))
    with pytest.raises(InputError, match="complex"):
        LabelledLogits(share_NC * 1j, np.zeros(40, np.int64))
    LabelledLogits(np.log(share_NC), np.zeros(40, np.int64))


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "parquet"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"a.{suffix}")
    with pytest.raises(InputError, match="not a regular file"):
        read_logits(tmp_path / f"a.{suffix}")
