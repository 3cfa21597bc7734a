"""Bases that are fine-tuned from pretrained weights, which several benchmarks ask: their data, and their trainings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from scipy.special import softmax

from coterie.arrays import FloatArray, IntArray
from coterie.backbones.base import Base
from coterie.backbones.packages import LITE0, MINILM
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings
from coterie.partition import Partition, confusion_counts, make_partition
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline.fit import fit_base
from coterie.pipeline.prepare import partition_request
from coterie.run.folder import Run
from coterie.run.manifest import MANIFEST


@dataclass(frozen=True)
class Data:
    """A data set, of whose training samples so many of a class are taken, and how its base is fine-tuned."""

    folder: str
    label: str
    classes: int
    per_class: int
    backbone: str
    epochs: int
    data: Mapping[str, object]


DATA = {
    "HWU64, 20 texts a class, MiniLM": Data("hwu64", "intent", 64, 20, MINILM, 8, {"text": "text"}),
    "CLINC150, 20 texts a class, MiniLM": Data("clinc150", "intent", 150, 20, MINILM, 8, {"text": "text"}),
    "CIFAR-100, 100 images a class, efficientnet-lite0 at 96 pixels": Data(
        "cifar100", "fine_label", 100, 100, LITE0, 3, {"image_size": 96}
    ),
}


def base_run(data: Data, shared: Path, runs: Path, seed: int) -> Run:
    """A fine-tuned base, trained where it is not there."""
    place = runs / f"{data.folder}-{seed}"
    if not (place / MANIFEST).exists():
        settings = FitSettings.from_values({**settings_of(data, shared, runs / "data"), "seed": seed})
        place.parent.mkdir(parents=True, exist_ok=True)
        fit_base(settings, place, progress=LineProgress(Console()))
    return Run.open(place)


def settings_of(data: Data, shared: Path, made: Path) -> dict[str, Any]:
    """Of a base; its share of the data is made in a folder."""
    source = subset(shared / data.folder, made / data.folder, data.label, data.classes * data.per_class)
    values = {"source": f"parquet:{source}", "label": data.label, "split_seed": 0, **data.data}
    return {"data": values, "backbone": data.backbone, "init": "pretrained", "base": {"epochs": data.epochs}}


def subset(folder: Path, out: Path, label: str, n_train: int, fewest: float = 1.0) -> Path:
    """A copy of parquet files with so many training rows, the other splits whole. Of the first class as many as of each
    other, where all are alike; the last has ``fewest`` of them, and those between fall geometrically.
    """
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        files = sorted(folder.glob(f"{split}-*.parquet"))
        if not files or (out / f"{split}-0.parquet").exists():
            continue
        table = pa.concat_tables([pq.read_table(file) for file in files])
        if split == "train":
            label_N = np.array(table[label].to_pylist())
            names = np.unique(label_N)
            share_C = fewest ** np.linspace(0, 1, len(names))
            n_C = (n_train // len(names) * share_C).astype(int)
            first = [np.flatnonzero(label_N == name)[:n] for name, n in zip(names, n_C, strict=True)]
            table = table.take(pa.array(np.sort(np.concatenate(first))))
        pq.write_table(table, out / f"{split}-0.parquet")
    return out


def spectral(run: Run, base: Base, base_NC: FloatArray, label_N: IntArray, n_clusters: int) -> Partition:
    """The partition of a base's head; its logits are of validation samples."""
    vectors_CD = LabelEmbedding.from_head(base.head.of(base.network)).vectors_CD
    request = partition_request(run.settings.partition, n_clusters, run.settings.seed)
    return make_partition(request, vectors_CD, confusion_counts(softmax(base_NC, axis=1), label_N), None)
