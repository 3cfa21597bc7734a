import json
from pathlib import Path

import numpy as np
import pytest

from coterie.cli import main


@pytest.fixture
def logits(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("validation", "test"):
        label_N = rng.integers(4, size=200)
        arrays |= {f"labels_{split}": label_N, f"logits_{split}": rng.normal(size=(200, 4)) + np.eye(4)[label_N]}
        arrays[f"logits_{split}_mine"] = rng.normal(size=(200, 4)) + 3 * np.eye(4)[label_N]
    np.savez(tmp_path / "some.npz", **arrays)
    return tmp_path / "some.npz"


def test_brought_logits_are_compared_as_table_and_as_json(logits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--logits", str(logits)]) == 0
    assert "mine, calibrated" in capsys.readouterr().out
    assert main(["compare", "--logits", str(logits), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == ["base", "base, calibrated", "mine", "mine, calibrated"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "takes the folder of a run, or --logits FILE"),
        (["run", "--logits", "some.npz"], "give one of them"),
        (["run", "--members", "-1"], "--members -1: must be at least 0"),
        (["nowhere"], "nowhere is not a coterie run"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments: list[str], message: str, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_logits_without_a_test_part_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(
        tmp_path / "v.npz",
        logits_validation=np.random.default_rng(0).normal(size=(9, 3)),
        labels_validation=np.arange(9) % 3,
    )
    assert main(["compare", "--logits", str(tmp_path / "v.npz")]) == 1
    assert "has no logits_test" in capsys.readouterr().err
