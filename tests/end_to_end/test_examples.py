"""The examples of other libraries, as they stand in the folder of that name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import coterie
from coterie.config import FitSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_routine_of_torch_uncertainty_takes_an_ensemble(tmp_path: Path) -> None:
    pytest.importorskip("torch_uncertainty", reason="needs torch-uncertainty and lightning")
    run, training = tmp_path / "run", {"epochs": 1, "batch_size": 64}
    values = {"data": {"train_per_class": 8}, "backbone": "convnet-8", "base": training, "specialist": training}
    coterie.fit(FitSettings.from_values({**values, "recipe": "paper", "partition": {"clusters": [4]}}), run)
    script = EXAMPLES / "torch_uncertainty_routine.py"
    done = subprocess.run([sys.executable, script, run], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    accuracies = [line.split("│")[2].strip() for line in done.stdout.splitlines() if " Acc " in line]
    test = json.loads((run / "metrics.json").read_text())["test"]
    assert accuracies == [f"{100 * test[name]:.3f}%" for name in ("base_top1", "ensemble_top1")]
