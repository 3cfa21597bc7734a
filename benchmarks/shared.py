"""What benchmarks share: the command line, the result file, planted clusters, and what is read off finished runs.

What imports torch is imported inside functions: scripts that measure memory or start-up time import this module too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import tyro

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from coterie.arrays import FloatArray, IntArray
    from coterie.backbones.base import Base
    from coterie.config import FitSettings
    from coterie.data.splits import Splits
    from coterie.partition import Partition
    from coterie.pipeline.prepare import Prepared
    from coterie.pipeline.training_task import SpecialistInputs
    from coterie.routing.evaluation import Outputs
    from coterie.routing.rule import Rule
    from coterie.routing.tune import TuningRequest
    from coterie.run.folder import FinishedRun, Run

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
Result = TypeVar("Result")

# The command line and the result file.


def command(*mains: Callable[..., None]) -> None:
    """Call a script's function with the options of the command line; of several, the one that is named first.

    The help is the script's docstring.
    """
    script = sys.modules[mains[0].__module__]
    options: dict[str, Any] = {"prog": f"python -m {_module(str(script.__file__))}", "description": script.__doc__}
    if len(mains) == 1:
        tyro.cli(mains[0], **options)
    else:
        tyro.extras.subcommand_cli_from_dict({main.__name__: main for main in mains}, **options)


def _module(script: str) -> str:
    """The name that ``python -m`` takes."""
    return ".".join(Path(script).resolve().relative_to(ROOT).with_suffix("").parts)


def processor() -> str:
    """The processor's name, with its number of cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def write_result(script: str, text: str, name: str | None = None) -> None:
    """Write the text to the script's ``.md`` file, with the command, the date and the machine.

    Args:
        script: the script's ``__file__``.
        text: Markdown.
        name: of the file, without ``.md``; default: the script's.
    """
    file = Path(script).with_name(f"{name or Path(script).stem}.md")
    typed = f"python -m {_module(script)} {shlex.join(sys.argv[1:])}".strip()
    heading = (
        f"`{typed}`, {date.today().isoformat()}, {processor()}, Python {platform.python_version()}, "
        f"torch {version('torch')}\n\n"
    )
    file.write_text(f"# {file.stem}\n\n{heading}{text}\n", encoding="utf-8")
    print(text)
    print(f"written to {file}")


# What took hours is kept beside the result too, a line of JSON a measurement: runs are gone with the machine.


def kept(file: Path) -> list[dict[str, Any]]:
    """All that was kept in a file; nothing where there is none."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def keep(file: Path, record: dict[str, Any], *keys: str) -> None:
    """Keep a record, with machine and date, in place of the one that has the same under ``keys``."""
    stamped = {**record, "machine": processor(), "date": date.today().isoformat()}
    by_keys = {tuple(one[key] for key in keys): one for one in (*kept(file), stamped)}
    file.write_text("".join(f"{json.dumps(one)}\n" for one in by_keys.values()))


def measured_on(records: Sequence[dict[str, Any]]) -> str:
    """On which machines what was kept was measured, with the last day on each."""
    latest = {
        machine: max(one["date"] for one in records if one["machine"] == machine)
        for machine in dict.fromkeys(one["machine"] for one in records)
    }
    return "Measured on " + "; ".join(f"{machine}, until {day}" for machine, day in latest.items()) + "."


def markdown_table(titles: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [" | ".join(map(str, cells)) for cells in (titles, *rows)]
    return "\n".join([f"| {lines[0]} |", "|---" * len(titles) + "|", *(f"| {line} |" for line in lines[1:])])


def over_runs(gains: ArrayLike) -> str:
    """Gains of several seeds, in points: their mean, with the ends of its interval where there is more than one."""
    from coterie.measures.significance import over_seeds

    gain_S = np.atleast_1d(gains)
    if len(gain_S) == 1:
        return f"{gain_S[0]:+.2f}"
    interval = over_seeds(gain_S)
    return shown(interval.mean, interval.low, interval.high)


def shown(gain: float, low: float, high: float) -> str:
    """A gain and the ends of its interval, in points."""
    return f"{gain:+.2f} ({low:+.2f} to {high:+.2f})"


def alone(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function of a script returns in a Python process of its own, whose memory, threads and caches are no
    one else's.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


# Planted clusters.

# Of the noise, in standard deviations of the centres: such that the best method misses the truth by a little.
# Ten classes a cluster, at C = 100, bear less of it.
NOISE = {100: 1.5, 1_000_000: 1.0}
USUAL_NOISE = 2.5


def planted(folder: Path, n_classes: int, n_clusters: int) -> None:
    """Write ``vectors.npy`` and ``truth.npy``: each class is its cluster's Gaussian centre plus Gaussian noise."""
    rng = np.random.default_rng(0)
    width = 64 if n_classes >= 1_000_000 else 256
    noise = NOISE.get(n_classes, USUAL_NOISE)
    share_S = rng.dirichlet(np.full(n_clusters, 5.0))
    truth = np.concatenate([np.arange(n_clusters), rng.choice(n_clusters, n_classes - n_clusters, p=share_S)])
    truth = rng.permutation(truth)
    centre_SD = rng.standard_normal((n_clusters, width), dtype=np.float32)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (n_classes, width))
    for start in range(0, n_classes, 50_000):
        own = truth[start : start + 50_000]
        vectors[start : start + 50_000] = centre_SD[own] + noise * rng.standard_normal((len(own), width), np.float32)
    vectors.flush()
    np.save(folder / "truth.npy", truth)


# Finished runs.


def plain(values: dict[str, Any]) -> FitSettings:
    """Settings with the defaults of what they do not name, in which no recipe fills anything."""
    from coterie.config import FitSettings

    return FitSettings.from_values(values).all_given()


def changed(run: Run, values: dict[str, Any]) -> FitSettings:
    """The run's settings with others for its specialists."""
    from coterie.config import FitSettings

    before = run.settings.to_values()
    return FitSettings.from_values({**before, "specialist": {**before["specialist"], **values}})


def splits_of(run: Run) -> Splits:
    """The data that a run was trained on."""
    from coterie.data import load

    return load(run.settings.data, run.settings.seed)


def base_logits(base: Base, splits: Splits, name: str) -> tuple[FloatArray, IntArray]:
    """The base's logits (N, C) on the split of a name, and the labels (N,)."""
    from coterie.config import HardwareSettings
    from coterie.training.fabric import make_fabric
    from coterie.training.passes import compute_logits

    split = getattr(splits, name)
    logits_NC = compute_logits(
        make_fabric(HardwareSettings(), splits.preprocessing), base.network, split.samples, splits.preprocessing
    )
    return logits_NC, split.labels_N.numpy()


def base_accuracies(values: dict[str, Any], seeds: Iterable[int], name: str) -> tuple[Splits, list[float]]:
    """Bases of some settings, trained alone with each seed: the data of the last, and each one's share of right answers
    on the split of a name.
    """
    from rich.console import Console

    from coterie.cli.terminal.progress import LineProgress
    from coterie.pipeline.fit import fit_base
    from coterie.pipeline.prepare import base_of_run
    from coterie.run.folder import Run

    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            settings = plain({**values, "refit_head": False, "seed": seed})
            fit_base(settings, Path(place), progress=LineProgress(Console()))
            splits, base = base_of_run(Run.open(Path(place)))
            base_NC, label_N = base_logits(base, splits, name)
        found.append(float(np.mean(base_NC.argmax(axis=1) == label_N)))
    return splits, found


def percentages(shares: Iterable[float]) -> str:
    """Shares of 1 in percent."""
    return ", ".join(f"{100 * share:.1f}" for share in shares)


def both_outputs(run: FinishedRun) -> tuple[Outputs, Outputs]:
    """Logits on validation and test."""
    from coterie.run.reporting import read_outputs

    return read_outputs(run, "validation"), read_outputs(run, "test")


def first_of(partition: Partition) -> Partition:
    """The first of several partitions side by side."""
    from coterie.partition import Partition

    members = [partition.classes(cluster).tolist() for cluster in partition.layers[0]]
    return Partition.from_members(members, partition.n_classes)


def gains_and_passes(run: FinishedRun, limits: Sequence[float | None]) -> list[float]:
    """By the rule that validation chooses within each limit of passes, on test: gain in points, and passes, a tail's
    counted by its operations.
    """
    from coterie.routing.evaluation import evaluate
    from coterie.routing.gate import Budget
    from coterie.routing.tune import TuningRequest, tune
    from coterie.run.values import partition_of

    partition, (validation, test), found = partition_of(run.manifest), both_outputs(run), []
    for limit in limits:
        report = evaluate(test, partition, tune(validation, partition, TuningRequest(budget=Budget(passes=limit))).rule)
        found += [100 * report.gain, report.mean_passes]
    return found


def training_seconds(run: FinishedRun, values: dict[str, Any], splits: Splits) -> float:
    """Processor time of training the first cluster's specialist, with some settings changed, on one thread."""
    from coterie.engine import TaskContext
    from coterie.pipeline.prepare import prepare
    from coterie.pipeline.specialists import specialist_tasks
    from coterie.progress import SILENT
    from coterie.run.names import BASE_FILE
    from coterie.run.values import partition_of

    settings = changed(run, values)
    prepared = prepare(settings, splits=splits, base_run=run.path)
    run.read_weights(BASE_FILE, prepared.base.network)
    task = specialist_tasks(settings, [partition_of(run.manifest)])[0]
    started = time.process_time()
    task.run(shared_by_trainings(prepared), TaskContext(SILENT))
    return time.process_time() - started


def shared_by_trainings(prepared: Prepared) -> SpecialistInputs:
    """What the trainings of all specialists from a base share."""
    from coterie.pipeline.specialists import specialist_inputs

    base = prepared.base
    return specialist_inputs(prepared, base.network, base.head, base.part)


# The curves of contenders: accuracy against training, and against forward passes.

FLIPS = " + flips"
TWO_BASES = "two bases, each with"
COPY_EPOCHS = 1.5  # of the base's training, with the base's own
TAILS = {"trainable": "stage3", "learning_rate": 0.2, "epochs": 8, "views": 4}
PAIR = (9, 3)
# Half of the base's 24 epochs, less what the trunk's views take, in epochs of two partitions of tails.
PAIR_EPOCHS = 14
PAIR_TAILS = f"tails of 9 and 3 clusters for {PAIR_EPOCHS} epochs"
# The trunk's output for four views of all samples.
MEMORY_GIB = 4


def study_run(study: Path, seed: int) -> FinishedRun:
    """A study's run of nine clusters with one seed."""
    from coterie.run.folder import Run

    return Run.open_complete(study / f"seed-{seed}" / "9-clusters")


def tail_settings(run: Run, clusters: tuple[int, ...], **specialist: Any) -> FitSettings:
    """For tails of several partitions from a run's base; ``specialist``: what is not as in TAILS."""
    from coterie.config import FitSettings

    before = run.settings.to_values()
    other = {
        "data": {**before["data"], "memory_gib": MEMORY_GIB},
        "specialist": {**before["specialist"], **TAILS, **specialist},
        "partition": {"clusters": clusters, "together": True},
    }
    return FitSettings.from_values({**before, **other})


def within(limit: float | None) -> str:
    """A limit of passes in words."""
    return "" if limit is None else f", at most {limit:g} passes"


@cache
def routed(
    place: Path, limit: float | None, flip: bool, wished: TuningRequest | None = None
) -> tuple[np.ndarray, float]:
    """Of a run: probabilities on test by the rule that validation chooses, and passes.

    Args:
        place: the run's folder.
        limit: of passes.
        flip: whether each image is answered with its mirror image.
        wished: the rules to choose among; default: all.
    """
    from coterie.routing.gate import Budget
    from coterie.routing.tune import TuningRequest, tune
    from coterie.run.folder import Run
    from coterie.run.values import partition_of
    from coterie.studies.comparison.contenders import outputs_of

    run = Run.open_complete(place)
    partition = partition_of(run.manifest)
    validation, test = (outputs_of(run, split, True) for split in ("validation", "test")) if flip else both_outputs(run)
    request = replace(wished or TuningRequest(), budget=Budget(passes=limit))
    return by_rule(test, partition, tune(validation, partition, request).rule)


def by_rule(test: Outputs, partition: Partition, rule: Rule) -> tuple[np.ndarray, float]:
    """Probabilities and passes."""
    from coterie.routing.evaluation import Routing

    routing = Routing.of(test, partition, rule)
    return routing.proba_NC(), routing.mean_passes()


def against_calibrated(validation: Outputs, test: Outputs, partition: Partition, request: TuningRequest) -> list[float]:
    """Gain in points, passes, NLL and ECE less those of the calibrated base; on test."""
    from scipy.special import softmax

    from coterie.measures.metrics import score
    from coterie.routing.calibration import temperature
    from coterie.routing.tune import tune

    proba_NC, passes = by_rule(test, partition, tune(validation, partition, request, 0).rule)
    heat = temperature(validation.base_NC, validation.label_N)
    ours, base = score(proba_NC, test.label_N), score(softmax(test.base_NC / heat, axis=1), test.label_N)
    return [100 * (ours.top1 - base.top1), passes, ours.nll - base.nll, ours.ece - base.ece]
