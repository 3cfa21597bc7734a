"""A finished run -> an ensemble."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import coterie
from coterie.data.splits import Splits
from coterie.errors import ArtifactError
from coterie.run import checks
from coterie.run.folder import Run


def test_a_load_reads_and_hashes_each_weights_file_once(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    hashed: list[int] = []
    open_regular, sha256 = checks.open_regular, hashlib.sha256
    monkeypatch.setattr(checks, "open_regular", lambda path: opened.update([path.name]) or open_regular(path))
    monkeypatch.setattr(hashlib, "sha256", lambda content: hashed.append(len(content)) or sha256(content))
    coterie.load(finished_run)
    weights = ["0.safetensors", "1.safetensors", "2.safetensors", "base.safetensors"]
    # The base's size is looked at before a network is built of it.
    assert sorted(opened.elements()) == sorted([*weights, "base.safetensors"])
    assert len(hashed) == len(weights)


@pytest.mark.parametrize("name", ["base.safetensors", "specialists/3/1.safetensors"])
def test_a_load_names_the_weights_that_are_damaged(finished_run: Path, name: str) -> None:
    file = finished_run / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"is damaged: {name}: its bytes have changed"):
        coterie.load(finished_run)


def test_a_loaded_ensemble_answers_as_the_run_did(finished_run: Path, splits: Splits) -> None:
    ensemble = coterie.load(finished_run)
    right = float((ensemble.predict(splits.test.samples) == splits.test.labels_N.numpy()).mean())
    reported = Run.open(finished_run).read_json("metrics.json")["test"]["ensemble_top1"]
    np.testing.assert_allclose(right, reported)


# Each takes from half a second to three to import, as long as torch.
SLOW = {"lightning_fabric", "torch._dynamo", "sklearn", "scipy.stats", "scipy.optimize", "pandas", "datasets"}


def test_a_load_and_an_answer_import_nothing_that_only_training_needs(finished_run: Path) -> None:
    code = f"""
import json, sys
import coterie
ensemble = coterie.load({str(finished_run)!r})
ensemble(ensemble.preprocessing.example())
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert SLOW & set(json.loads(done.stdout)) == set()
