"""Pairs of a base and its data, of many kinds, on which forecasts and recipes are judged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.gains.fine_tuned import DATA, settings_of, subset
from benchmarks.shared import shown
from coterie.config import FitSettings
from coterie.config import merged as over
from coterie.run.folder import FinishedRun
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_reports
from coterie.run.values import weight_bytes

ADAMW = {"optimizer": "adamw", "weight_decay": 0.01}
NGRAMS: dict[str, Any] = {"backbone": "ngram-64", "base": {**ADAMW, "epochs": 10, "learning_rate": 0.01}}
SENTENCES: dict[str, Any] = {
    "data": {"text_as": "minilm"},
    "base": {**ADAMW, "epochs": 10, "learning_rate": 0.005},
}
MLP: dict[str, Any] = {"backbone": "mlp-128", "base": {**ADAMW, "epochs": 10, "learning_rate": 0.003}}
# Of generated features: classes, samples of each, noise.
FEATURES = ((50, 100, 0.9), (300, 30, 0.7))
# The share of training labels that another class's take the place of.
WRONG = 0.2


@dataclass(frozen=True, eq=False)
class Pair:
    """A base with its data: their settings, and whether it was set aside before anything was tuned."""

    name: str
    values: dict[str, Any]
    aside: bool = False


def run_place(folder: Path, pair: Pair) -> Path:
    """Where the run of a pair lies in a folder of runs."""
    return folder / "".join(c if c.isalnum() else "-" for c in pair.name)


def in_points(figures: Sequence[float]) -> str:
    """A gain and the ends of its interval, shares of 1, in points."""
    return shown(*(100 * figure for figure in figures))


def figures_of(run: FinishedRun) -> dict[str, Any]:
    """What tables say of a run: gains and their like as shares of 1; costs in those of the base, the training's as
    seconds say.
    """
    reports, seconds = read_reports(run), run.manifest.seconds
    test, forecast = reports["test"], run.manifest.pilot
    return {
        "forecast": None if forecast is None else [forecast.gain, forecast.low, forecast.high],
        "recipe_found": run.settings.recipe,
        "epochs": run.settings.specialist.epochs,
        "base": test.base_top1,
        "gain": test.gain,
        "low": test.gain_low,
        "high": test.gain_high,
        "validation": reports["validation"].gain,
        "passes": test.mean_passes,
        "training": sum(seconds.values()) / seconds[BASE_FILE],
        "storage": weight_bytes(run.manifest) / run.manifest.files[BASE_FILE].bytes,
    }


def pairs(shared: Path, made: Path) -> Iterator[Pair]:
    """All of them.

    Args:
        shared: folder of cifar100, clinc150 and hwu64, each with its parquet files.
        made: folder for data that has to be made.
    """
    clinc = {"source": f"parquet:{shared / 'clinc150'}", "label": "intent", "text": "text"}
    hwu = {"source": f"parquet:{shared / 'hwu64'}", "label": "intent", "text": "text"}
    yield Pair("CLINC150, n-grams", merged(NGRAMS, {"data": clinc}))
    yield Pair("CLINC150, frozen MiniLM, linear", merged(SENTENCES, {"backbone": "linear", "data": clinc}))
    yield Pair("CLINC150, frozen MiniLM, MLP", merged(SENTENCES, {"backbone": "mlp-128", "data": clinc}), True)
    yield Pair("HWU64, n-grams", merged(NGRAMS, {"data": hwu}))
    yield Pair("HWU64, frozen MiniLM, linear", merged(SENTENCES, {"backbone": "linear", "data": hwu}), True)
    yield Pair("HWU64, n-grams, 3 epochs", merged(NGRAMS, {"data": hwu}, {"base": {"epochs": 3}}), True)
    noisy = {**hwu, "source": f"parquet:{_noisy(shared / 'hwu64', made / 'hwu64-noisy')}"}
    yield Pair("HWU64, n-grams, 20 % of labels wrong", merged(NGRAMS, {"data": noisy}))
    for n_classes, per_class, noise in FEATURES:
        source = {"data": {"source": f"features:{features(made, n_classes, per_class, noise)}"}}
        yield Pair(f"features, {n_classes} classes, MLP", merged(MLP, source))
    short: dict[str, Any] = {"backbone": "convnet-32", "base": {"epochs": 10}}
    demo = FitSettings.from_yaml(Path("examples/demo.yaml")).given()
    yield Pair("glyphs, convnet (the demo)", {name: demo[name] for name in ("data", "backbone", "base")})
    yield Pair("CIFAR-100, convnet-32, 10 epochs", {**_fine(shared / "cifar100"), **short})
    few = subset(shared / "cifar100", made / "cifar100", "fine_label", 100 * 100)
    cifar = {"backbone": "convnet-32", "base": {"batch_size": 64, "epochs": 10}}
    # Set aside until a recipe of tails looked at which errors are open.
    yield Pair("CIFAR-100, 100 images a class, convnet-32", merged(cifar, _fine(few)))
    more = subset(shared / "cifar100", made / "cifar100-250", "fine_label", 100 * 250)
    yield Pair("CIFAR-100, 250 images a class, convnet-32", merged(cifar, _fine(more)))
    tail = subset(shared / "cifar100", made / "cifar100-long-tail", "fine_label", 100 * 500, fewest=1 / 100)
    yield Pair("CIFAR-100, long tail, convnet-32", merged(cifar, _fine(tail)))
    yield Pair("CIFAR-100, long tail, convnet-32, 25 epochs", merged(cifar, {"base": {"epochs": 25}}, _fine(tail)))
    for name in ("HWU64, 20 texts a class, MiniLM", "CLINC150, 20 texts a class, MiniLM"):
        yield Pair(f"{name}, fine-tuned", settings_of(DATA[name], shared, made), name.startswith("CLINC"))


def _fine(folder: Path) -> dict[str, Any]:
    return {"data": {"source": f"parquet:{folder}", "label": "fine_label"}}


def merged(*values: dict[str, Any]) -> dict[str, Any]:
    """Settings of several, group by group; what comes later goes over what came before."""
    return reduce(over, values, {})


def features(folder: Path, n_classes: int, per_class: int, noise: float) -> Path:
    """Groups of five classes around a centre each; three numbers in four tell nothing. Made once."""
    file = folder / f"features-{n_classes}.npz"
    if not file.exists():
        rng = np.random.default_rng(n_classes)
        group_GD = rng.normal(size=(n_classes // 5, 16))
        centre_CD = np.repeat(group_GD, 5, axis=0) + 0.6 * rng.normal(size=(n_classes, 16))
        label_N = np.repeat(np.arange(n_classes), per_class)
        feature_ND = np.concatenate(
            [
                centre_CD[label_N] + noise * rng.normal(size=(len(label_N), 16)),
                rng.normal(size=(len(label_N), 48)),
            ],
            axis=1,
        )
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, features=feature_ND.astype(np.float32), labels=label_N)
    return file


def _noisy(folder: Path, out: Path) -> Path:
    """A copy of parquet files of intents, a share of whose training labels are those of other rows. Made once."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for file in sorted(folder.glob("*.parquet")):
        if (out / file.name).exists():
            continue
        table = pq.read_table(file)
        if file.name.startswith("train"):
            place = table.column_names.index("intent")
            intent_N = np.array(table["intent"].to_pylist())
            wrong = rng.random(len(intent_N)) < WRONG
            intent_N[wrong] = rng.permutation(intent_N[wrong])
            table = table.set_column(place, "intent", pa.array(intent_N))
        pq.write_table(table, out / file.name)
    return out
