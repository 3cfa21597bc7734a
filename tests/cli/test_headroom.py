import json
from pathlib import Path

import numpy as np
import pytest

from coterie.cli import main


def test_logits_give_a_folder_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label_N = np.arange(120) % 6
    logits_NC = np.random.default_rng(0).normal(size=(120, 6)) + 2 * np.eye(6)[label_N]
    np.savez(tmp_path / "some.npz", logits_validation=logits_NC, labels_validation=label_N)
    out = tmp_path / "out"
    command = ["headroom", str(tmp_path / "some.npz"), "--out", str(out), "--clusters", "2", "--methods", "average"]
    assert main(command) == 0
    values = json.loads((out / "headroom.json").read_text())
    printed = capsys.readouterr().out
    assert f"{100 * values['base_accuracy']:.2f}" in printed
    assert "headroom.html" in printed
    assert (out / "headroom.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("gain", ["0", "100", "-1"])
def test_a_gain_is_between_none_and_all(gain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["headroom", "x.npz", "--out", str(tmp_path / "out"), f"--gain={gain}"]) == 1
    assert "must be above 0 and below 100 points" in capsys.readouterr().err
