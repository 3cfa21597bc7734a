"""Do exported graphs answer as the run does, on real samples?

Question: by how much does a probability of the ONNX graphs, run by onnxruntime, differ from the run's on up to 2,000
test samples, and of how many is another class the likeliest? Asked: at most 1e-4 and none, with weights in float32;
for runs that are one graph, fp16, int8 and torch's own programs are there to see what they cost. Four kinds of runs: a
convnet with tails of two partitions and efficientnet-lite0 with tails on CIFAR-100 (20 of its classes), MiniLM with
adapters on CLINC150 (67 of its intents), and features (scikit-learn's digits) with an MLP and whole specialists.
Trainings are of one epoch on few samples: what the networks have learned does not change whether graphs agree.
"""

import json
import os
import shutil
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

from benchmarks.shared import alone, command, markdown_table, write_result
from coterie.backbones.packages import LITE0, MINILM

SHORT = {"epochs": 1, "batch_size": 16}
# Whatever validation says of specialists that have learned so little: graphs that ask nobody would agree by the base.
ASKED = {"combiner": "hard", "score": "confidence", "threshold": 0.2}
TARGETS: tuple[tuple[Literal["onnx", "torch"], Literal["fp32", "fp16", "int8"]], ...] = (
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("torch", "fp32"),
)
PER_CLASS = 20


def cases(cifar100: Path, clinc150: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Settings of each run, but for what all have."""
    images = _subset(cifar100, folder / "images", "fine_label", 20)
    texts = _subset(clinc150, folder / "texts", "intent", 67)
    digits = load_digits()
    np.savez(folder / "digits.npz", features=digits.data.astype(np.float32), labels=digits.target)
    photos = {"source": f"parquet:{images}", "label": "fine_label"}
    pair = {"clusters": [5, 2], "together": True}
    return {
        "convnet-16, tails of two partitions": {
            "backbone": "convnet-16",
            "data": photos,
            "specialist": {**SHORT, "trainable": "stage2"},
            "partition": pair,
        },
        "efficientnet-lite0, tails": {
            "backbone": LITE0,
            "init": "pretrained",
            "data": {**photos, "image_size": 64},
            "specialist": {**SHORT, "trainable": "blocks.5"},
        },
        "MiniLM, adapters": {
            "backbone": MINILM,
            "init": "pretrained",
            "data": {"source": f"parquet:{texts}", "text": "text", "label": "intent"},
            "specialist": {**SHORT, "trainable": "lora-4"},
            "partition": {"clusters": [3]},
        },
        "features, mlp-64": {
            "backbone": "mlp-64",
            "data": {"source": f"features:{folder / 'digits.npz'}"},
            "partition": {"clusters": [3]},
        },
    }


def _subset(source: Path, out: Path, label: str, n_classes: int) -> Path:
    """The first classes of parquet files, with few training samples of each; all test samples."""
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        table = pa.concat_tables([pq.read_table(file) for file in sorted(source.glob(f"{split}-*.parquet"))])
        label_N = np.array(table[label].to_pylist())
        rows = [np.flatnonzero(label_N == name) for name in np.unique(label_N)[:n_classes]]
        chosen = np.concatenate([row[: PER_CLASS if split == "train" else None] for row in rows])
        # Without the names of all classes, which the data sets of the hub note there.
        some = table.take(pa.array(np.sort(chosen))).replace_schema_metadata(None)
        pq.write_table(some, out / f"{split}-0.parquet")
    return out


def measure(name: str, values: dict[str, Any], folder: Path) -> list[list[object]]:
    """A run, exported to each target with each kind of weights."""
    import coterie
    from coterie.export.exporting import export_run
    from coterie.run.folder import Run
    from coterie.run.reporting import read_reports

    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    common = {"base": SHORT, "specialist": SHORT, "partition": {"clusters": [4]}, "gate": ASKED}
    common["hardware"] = {"threads": 1}
    coterie.fit(coterie.FitSettings.from_values({**common, **values}), run)
    read = Run.open(run)
    routed = read_reports(read)["test"].routed_fraction
    rows: list[list[object]] = []
    # As many graphs as networks take as many times as long: of those, what is asked alone.
    for target, weights in TARGETS[: None if read.manifest.trunk else 1]:
        started = time.perf_counter()
        made = folder / target
        shutil.rmtree(made, ignore_errors=True)
        parity = export_run(run, target, made, weights=weights)
        size = sum(file.stat().st_size for file in made.iterdir()) / 1e6
        cells = f"{parity.samples:,}", f"{routed:.0%}", f"{parity.largest_difference:.1e}", parity.changed_answers
        rows.append([name, target, weights, *cells, f"{size:.1f}"])
        print(rows[-1], f"{time.perf_counter() - started:.0f} s", flush=True)
    return rows


def main(cifar100: Path, clinc150: Path, kept: Path, only: tuple[str, ...] = ("",)) -> None:
    """Train and export each run that was not measured yet.

    Args:
        cifar100: folder with its parquet files.
        clinc150: folder with its parquet files.
        kept: JSON file of the rows of each run; those that are there are not measured again.
        only: cases whose name holds one of these.
    """
    rows: dict[str, list[list[object]]] = json.loads(kept.read_text()) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name, values in cases(cifar100.resolve(), clinc150.resolve(), Path(folder)).items():
            if name not in rows and any(part in name for part in only):
                rows[name] = alone(measure, name, values, Path(folder))
                kept.write_text(json.dumps(rows))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    titles = ["run", "target", "weights", "samples", "routed", "largest difference", "changed answers", "MB"]
    table = markdown_table(titles, chain.from_iterable(rows.values()))
    write_result(
        __file__, f"Graphs beside `predict_proba` on a CPU. Load averages of the machine at the end: {load}.\n\n{table}"
    )


if __name__ == "__main__":
    command(main)
