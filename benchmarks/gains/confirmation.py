"""Do the leads of moonshot.md hold on bases that took no part in any choice?

Question: on fresh seeds, what do whole specialists gain within 1.5 and 2 forward passes, over the paper's rule and over
the same budget spent on an all-class copy that is averaged with the base; and what tails of 9 and 3 clusters, over a
second base? Trained in OUT, which resumes: for each of the seeds from FIRST to LAST, by the recipe `cpu`, a base, its
nine specialists and the copy; and for the first N_TAILS of them the tails. How many was settled before the first was
trained. The leads over the copy are pooled with those of the seeds in moonshot.md.
"""

from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.special import softmax

from benchmarks.shared import (
    COPY_EPOCHS,
    FLIPS,
    PAIR,
    PAIR_EPOCHS,
    TWO_BASES,
    against_calibrated,
    both_outputs,
    command,
    over_runs,
    routed,
    study_run,
    tail_settings,
    within,
    write_result,
)
from benchmarks.shared import PAIR_TAILS as TAILS
from coterie.cli.terminal.progress import LineProgress
from coterie.config import EngineSettings
from coterie.data import load
from coterie.measures.metrics import score
from coterie.pipeline.runs import do_all, resources_of
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest
from coterie.run.folder import FinishedRun, Run
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.studies.comparison.contenders import outputs_of
from coterie.studies.comparison.controls import ALL_CLASSES, controls_folder
from coterie.studies.comparison.costs import CostModel
from coterie.studies.comparison.tasks import ControlTask, FlippedFitTask, control_tasks, is_done
from coterie.studies.reproduction.study import recipe
from coterie.system.limits import Limits

N_WORKERS = 2
LIMITS = (1.5, 2.0, None)
PAPER = TuningRequest(("hard",), ("entropy",), (1,))
BASE, COPY, PAPER_RULE = "base", "base and all-class copy", "the paper's rule"
WHOLE = "whole specialists of 9 clusters"
ENSEMBLE = "deep ensemble of"
Runs = list[FinishedRun]


def train(out: Path, source: str, numbers: range, n_tails: int) -> tuple[Runs, Runs, list[float]]:
    """What is not there yet: first the bases with their specialists, then what starts from them.

    Returns:
        A run for each seed; runs of tails, and their training, the base's being 1.
    """
    settings = recipe("cpu")
    settings = settings.model_copy(update={"data": settings.data.with_source(source)})
    splits = load(settings.data, 0)

    def do(tasks: list[ControlTask]) -> None:
        engine = EngineSettings(workers=N_WORKERS)
        for outcome in do_all(tasks, splits, resources_of([settings]), engine, LineProgress(Console()), Limits()):
            if outcome.error is not None:
                raise outcome.error

    places = {number: out / f"seed-{number}" / "9-clusters" for number in numbers}
    for place in places.values():
        place.parent.mkdir(parents=True, exist_ok=True)
    do(
        [
            FlippedFitTask(f"seed {number}", settings.model_copy(update={"seed": number}), place)
            for number, place in places.items()
            if not is_done(place, splits)
        ]
    )
    seeds = {number: study_run(out, number) for number in numbers}
    copies = [
        task
        for number, run in seeds.items()
        for task in control_tasks(run, splits, None, 0, prefix=f"seed {number}, ")
        if task.title.endswith(ALL_CLASSES)
    ]
    tails = [(number, run, run.path.with_name("tails")) for number, run in list(seeds.items())[:n_tails]]
    do(
        copies
        + [
            FlippedFitTask(f"seed {number}, tails", tail_settings(run, PAIR, epochs=PAIR_EPOCHS), place, run.path)
            for number, run, place in tails
            if not is_done(place, splits)
        ]
    )
    runs = [Run.open_complete(place) for _, _, place in tails]
    return list(seeds.values()), runs, [CostModel.of(run, splits).training for run in runs]


def base_of(seed: FinishedRun, flip: bool) -> np.ndarray:
    """Probabilities on test."""
    return softmax(outputs_of(seed, "test", flip).base_NC, axis=1)


def rows_of(seeds: Runs, own: FinishedRun, tails: Runs, training: float) -> dict[str, list[float]]:
    """Of one seed: accuracy, training, passes. The next seeds' bases are the others of a deep ensemble.

    Args:
        seeds: the runs of all of them, whose first have the tails.
        own: the run of this seed.
        tails: runs of tails.
        training: what they took.
    """
    found: dict[str, list[float]] = {}
    label_N = read_outputs(own, "test").label_N
    place = seeds.index(own)

    def add(name: str, proba_NC: np.ndarray, training: float, passes: float) -> None:
        found[name] = [100 * score(proba_NC, label_N).top1, training, passes]

    for flip, more, views in ((False, "", 1), (True, FLIPS, 2)):
        bases = [base_of(seed, flip) for seed in seeds[place:] + seeds[:place]]
        add(BASE + more, bases[0], 1, views)
        copied = Run.open_complete(controls_folder(own.path) / ALL_CLASSES)
        copy = softmax(outputs_of(copied, "test", flip).packed_NM, axis=1)
        add(COPY + more, (bases[0] + copy) / 2, COPY_EPOCHS, 2 * views)
        for size in (2, 4):
            add(f"{ENSEMBLE} {size}{more}", np.mean(bases[:size], axis=0), size, size * views)
        for limit in LIMITS:
            for name, wishes in ((PAPER_RULE, PAPER), (WHOLE, TuningRequest())):
                proba_NC, passes = routed(own.path, limit, flip, wishes)
                add(f"{name}{within(limit)}{more}", proba_NC, COPY_EPOCHS, passes * views)
            if place < len(tails):
                both = [routed(tails[(place + step) % len(tails)].path, limit, flip) for step in (0, 1)]
                add(f"{TAILS}{within(limit)}{more}", both[0][0], training, both[0][1] * views)
                mean_NC = (both[0][0] + both[1][0]) / 2
                add(
                    f"{TWO_BASES} {TAILS}{within(limit)}{more}",
                    mean_NC,
                    2 * training,
                    (both[0][1] + both[1][1]) * views,
                )
    return found


def recorded(name: str) -> np.ndarray:
    """The gains of each seed in a row of moonshot.md."""
    lines = Path(__file__).with_name("moonshot.md").read_text(encoding="utf-8").splitlines()
    [cells] = [line.split(" | ") for line in lines if line.startswith(f"| {name} | ")]
    return np.array([float(gain) for gain in cells[4].split(", ")])


def main(out: Path, source: str, first: int, last: int, n_tails: int) -> None:
    """Train, and the table.

    Args:
        out: folder of what is trained.
        source: where CIFAR-100 is, as `coterie fit` takes it.
        first: the first seed.
        last: the last seed.
        n_tails: how many of the seeds have tails.
    """
    seeds, tails, training = train(out.absolute(), source, range(first, last + 1), n_tails)
    found = [rows_of(seeds, seed, tails, training[0]) for seed in seeds]
    gains = {name: np.array([rows[name][0] - rows[BASE][0] for rows in found if name in rows]) for name in found[0]}
    means = {name: np.mean([rows[name] for rows in found if name in rows], axis=0) for name in found[0]}
    lines = [
        (
            f"Seeds {first} to {last}, tails for the first {n_tails}; means on test, gains with Student's 95 % "
            "intervals over seeds. Training and passes in the base's, by operations. Rules are chosen on validation."
        ),
        "",
        "| | training | passes | gain, points | each seed |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(gains, key=lambda name: gains[name].mean()):
        each = ", ".join(f"{gain:+.2f}" for gain in gains[name])
        _, trained, passes = means[name]
        lines.append(f"| {name} | {trained:.2f} | {passes:.2f} | {over_runs(gains[name])} | {each} |")
    lines += ["", "Leads, in points, with Student's 95 % intervals over the seeds that have both:", ""]
    for ahead, behind in LEADS:
        n = min(len(gains[ahead]), len(gains[behind]))
        lead_R = gains[ahead][:n] - gains[behind][:n]
        lines.append(f"- {ahead} over {behind}: {over_runs(lead_R)}, {n} seeds")
        if behind == COPY and not ahead.startswith(TAILS):
            pooled = np.concatenate([recorded(ahead) - recorded(behind), lead_R])
            lines.append(f"  - with the seeds of moonshot.md: {over_runs(pooled)}, {len(pooled)} seeds")
    lines += ["", "Whole specialists against the temperature-scaled base, means over seeds:", ""]
    for limit in LIMITS:
        *_, nll, ece = np.mean([_calibrated(seed, limit) for seed in seeds], axis=0)
        lines.append(f"- {WHOLE}{within(limit)}: NLL {nll:+.4f}, ECE {ece:+.4f}")
    write_result(__file__, "\n".join(lines))


def _calibrated(seed: FinishedRun, limit: float | None) -> list[float]:
    request = TuningRequest(budget=Budget(passes=limit))
    return against_calibrated(*both_outputs(seed), partition_of(seed.manifest), request)


LEADS = (
    *((f"{WHOLE}{within(limit)}", COPY) for limit in LIMITS),
    *((f"{WHOLE}{within(limit)}{FLIPS}", COPY + FLIPS) for limit in LIMITS),
    *((f"{WHOLE}{within(limit)}{FLIPS}", BASE + FLIPS) for limit in LIMITS),
    *((f"{WHOLE}{within(limit)}", f"{PAPER_RULE}{within(limit)}") for limit in LIMITS),
    (f"{TAILS}{within(1.5)}", COPY),
    *((f"{TAILS}{within(limit)}", f"{ENSEMBLE} 2") for limit in LIMITS),
    *((f"{TAILS}{within(limit)}{FLIPS}", f"{ENSEMBLE} 2{FLIPS}") for limit in LIMITS),
    *((f"{TWO_BASES} {TAILS}{within(limit)}", f"{ENSEMBLE} 4") for limit in LIMITS),
)


if __name__ == "__main__":
    command(main)
