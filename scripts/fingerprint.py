"""The sha256 of all that a few small runs leave: weights, logits, figures.

Run it before and after a change that must not change them, on one machine, and compare::

    python scripts/fingerprint.py before.json
    python scripts/fingerprint.py after.json before.json

The second form exits with 1 where a run of both files has left other bytes. The code that is run is the `coterie` that
this Python finds.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TINY = str(Path(__file__).parents[1] / "examples" / "tiny.yaml")
SHORT = ("--base.epochs", "4", "--specialist.epochs", "3", "--base.batch-size", "32", "--specialist.batch-size", "32")
TAILS = ("--config", TINY, "--specialist.trainable", "stage3", "--partition.clusters", "6", "3")
# Files that hold times or dates are left out: the manifest, the report, logs.
PATTERNS = ("*.safetensors", "metrics.json", "history.json")


def main() -> int:
    """Do the runs, write their fingerprints, and compare them with those of a file."""
    out, *before = [Path(argument) for argument in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        found = {name: fingerprint(Path(folder) / name, options) for name, options in cases(Path(folder)).items()}
    out.write_text(json.dumps(found, indent=2))
    if not before:
        return 0
    known = json.loads(before[0].read_text())
    changed = [name for name in known if name in found and known[name] != found[name]]
    for name in known:
        files = len(known[name])
        same = sum(found.get(name, {}).get(file) == digest for file, digest in known[name].items())
        print(f"{name}: {same} of {files} files have the same bytes")
    return int(bool(changed))


def cases(folder: Path) -> dict[str, tuple[str, ...]]:
    """The options of each run; the data of some is drawn into the folder."""
    rng = np.random.default_rng(0)
    words = ["apple", "pear", "plum", "ash", "oak", "elm", "cat", "dog"]
    rows = [(f"{words[k % 8]} {words[int(rng.integers(8))]} {int(rng.integers(90))}", k % 8) for k in range(400)]
    texts = folder / "texts.csv"
    texts.write_text("text,kind\n" + "".join(f"{text},{words[k]}\n" for text, k in rows))
    label_N = np.arange(600) % 12
    centre_CD = rng.normal(size=(12, 16))
    features = folder / "features.npz"
    vectors_ND = (centre_CD[label_N] + 1.2 * rng.normal(size=(600, 16))).astype(np.float32)
    np.savez(features, features=vectors_ND, labels=label_N)
    table = folder / "table.csv"
    lines = [f"{v[0]:.4f},{v[1]:.4f},{'ab'[int(v[2] > 0)]},k{k}" for v, k in zip(vectors_ND, label_N, strict=True)]
    table.write_text("first,second,letter,kind\n" + "\n".join(lines) + "\n")
    small = (*SHORT, "--partition.clusters", "3")
    vectors = ("--data.source", f"features:{features}", "--backbone", "mlp-32", *small)
    return {
        "tiny": ("--config", TINY),
        "tails of two partitions": (*TAILS, "--partition.together", "--specialist.bits", "2.4"),
        "tails, computed anew": (*TAILS, "--specialist.views", "0", "--specialist.patience", "2"),
        "texts": ("--data.source", f"csv:{texts}", "--data.label", "kind", "--backbone", "ngram-16", *small),
        "features": vectors,
        "features, a cover": (*vectors, "--partition.overlap", "0.3", "--base.optimizer", "adamw"),
        "features, averaged": (*vectors, "--specialist.average-decay", "0.9", "--partition.method", "confusion"),
        "table": ("--data.source", f"csv:{table}", "--data.label", "kind", "--backbone", "table-mlp-16", *small),
    }


def fingerprint(run: Path, options: tuple[str, ...]) -> dict[str, str]:
    """The sha256 of each file of a run, by its name."""
    hardware = ("--hardware.accelerator", "cpu", "--hardware.threads", "1", "--track.no-tensorboard")
    command = [sys.executable, "-m", "coterie", "fit", "--out", str(run), *options, *hardware]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    files = sorted({file for pattern in PATTERNS for file in run.rglob(pattern)})
    return {file.relative_to(run).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    raise SystemExit(main())
