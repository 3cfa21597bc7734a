"""The paper's experiment: one base per seed, its specialists for three numbers of clusters, and all controls.

A study is a folder of ordinary runs, OUT/seed-N/S-clusters; the one with most clusters trains the base and holds the
controls, the others take the base from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import yaml

from coterie.config import EngineSettings, FitSettings
from coterie.data.shared import refuse_shared
from coterie.data.splits import Splits
from coterie.engine import check_engine
from coterie.errors import ArtifactError, SettingsError, TrainingError
from coterie.pipeline.runs import do_all, resources_of
from coterie.progress import Progress
from coterie.run.folder import Run
from coterie.run.manifest import MANIFEST
from coterie.run.reporting import read_reports
from coterie.studies.comparison.study import compare_run
from coterie.studies.comparison.tasks import ControlTask, FlippedFitTask, control_tasks, is_done
from coterie.studies.reproduction.page import render
from coterie.studies.reproduction.tables import PaperFigures, Reproduction, summarise
from coterie.system.files import write_whole
from coterie.system.limits import Limits

PAGE = "reproduction.html"
RECIPES = ("cpu", "paper")
# The paper's, the one that holds the controls first.
NUMBERS_OF_CLUSTERS = (9, 8, 3)


def recipe(name: str, base_epochs: int | None = None) -> FitSettings:
    """The settings of a recipe, with another number of epochs for the base if one is given.

    Raises:
        SettingsError: there is no such recipe, or no base of so many epochs.
    """
    if name not in RECIPES:
        raise SettingsError(f"recipe {name!r}: unknown; allowed: {', '.join(RECIPES)}")
    values = yaml.safe_load(_resource(name))
    if base_epochs is not None:
        values["base"]["epochs"] = base_epochs
    return FitSettings.from_values(values)


@dataclass(frozen=True)
class ReproductionStudy:
    """What is to be run: ``settings`` are a recipe's, ``seeds`` which runs, ``superclasses`` as
    ``partition.groups``, None for no such control.
    """

    settings: FitSettings
    out: Path
    seeds: tuple[int, ...]
    superclasses: str | None

    def run_of(self, seed: int, n_clusters: int) -> Path:
        """Where a run of the study is."""
        return self.out / f"seed-{seed}" / f"{n_clusters}-clusters"


def reproduce(
    study: ReproductionStudy,
    splits: Splits,
    progress: Progress,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
) -> Reproduction:
    """Do what is left of a study, and draw its tables. A seed that fails is named, and loses none of the others.

    The bases of all seeds come first, each with the specialists of most clusters, then all that starts from them. Where
    there is one seed, this first run has all cores, and its specialists are what the engine does.

    Raises:
        TrainingError: every seed failed.
        CoterieError: what would stop every seed.
    """
    check_engine(engine)
    # Such samples are known in the paper's data set; the paper has the same.
    notes = refuse_shared(splits, allowed=True)
    first, *others = NUMBERS_OF_CLUSTERS
    if len(study.seeds) == 1:
        alone = {study.seeds[0]: _runs_of_seed(study, study.seeds[0], splits, [first], engine)}
        failed = _do(study, alone, splits, progress, EngineSettings(workers=1))
    else:
        firsts = {seed: _runs_of_seed(study, seed, splits, [first]) for seed in study.seeds}
        failed = _do(study, firsts, splits, progress, engine)
    rest = {
        seed: _runs_of_seed(study, seed, splits, others) + _controls_of_seed(study, seed, splits)
        for seed in study.seeds
        if seed not in failed
    }
    failed |= _do(study, rest, splits, progress, engine)
    if len(failed) == len(study.seeds):
        raise TrainingError("; ".join(failed.values()))
    return gather(study, splits, (*notes, *failed.values()))


def _do(
    study: ReproductionStudy,
    tasks: Mapping[int, Sequence[ControlTask]],
    splits: Splits,
    progress: Progress,
    engine: EngineSettings,
) -> dict[int, str]:
    """Do the tasks of each seed; returns what to say of the seeds where one failed."""
    failed: dict[int, str] = {}
    seed_of = [seed for seed, some in tasks.items() for _ in some]
    listed = [task for some in tasks.values() for task in some]
    outcomes = do_all(listed, splits, resources_of([study.settings]), engine, progress, Limits())
    for seed, outcome in zip(seed_of, outcomes, strict=True):
        if outcome.error is not None:
            failed[seed] = f"seed {seed} failed and is left out: {outcome.error}"
            progress.note(failed[seed])
    return failed


def _runs_of_seed(
    study: ReproductionStudy,
    seed: int,
    splits: Splits,
    numbers_of_clusters: Sequence[int],
    engine: EngineSettings | None = None,
) -> list[ControlTask]:
    """The runs that a seed lacks; the one with most clusters trains the base."""
    settings = study.settings.model_copy(update={"seed": seed})
    most = NUMBERS_OF_CLUSTERS[0]
    tasks: list[ControlTask] = []
    for n_clusters in numbers_of_clusters:
        partition = settings.partition.model_copy(update={"clusters": (n_clusters,)})
        place = study.run_of(seed, n_clusters).absolute()
        place.parent.mkdir(parents=True, exist_ok=True)
        base_run = None if n_clusters == most else study.run_of(seed, most).absolute()
        if not is_done(place, splits):
            chosen = settings.model_copy(update={"partition": partition})
            tasks.append(FlippedFitTask(f"seed {seed}, {n_clusters} clusters", chosen, place, base_run, engine))
    return tasks


def _controls_of_seed(study: ReproductionStudy, seed: int, splits: Splits) -> list[ControlTask]:
    """The controls that a seed lacks."""
    run = Run.open_complete(study.run_of(seed, NUMBERS_OF_CLUSTERS[0]))
    return control_tasks(run, splits, study.superclasses, 0, prefix=f"seed {seed}, ")


def trainings_of_seed(study: ReproductionStudy) -> int:
    """How often a seed trains for the specialists' epochs: each number of clusters, and each control."""
    return len(NUMBERS_OF_CLUSTERS) + (5 if study.superclasses else 4)


def gather(study: ReproductionStudy, splits: Splits, notes: Sequence[str] = ()) -> Reproduction:
    """The tables of what is finished.

    Raises:
        ArtifactError: no seed has finished its runs.
    """
    notes = list(notes)
    done = [seed for seed in study.seeds if all(_finished(study.run_of(seed, s)) for s in NUMBERS_OF_CLUSTERS)]
    notes += [f"seed {seed} is unfinished and left out" for seed in study.seeds if seed not in done]
    if not done:
        raise ArtifactError(f"no seed of {study.out} has finished its runs; the same command goes on with them")
    runs = {seed: Run.open_complete(study.run_of(seed, NUMBERS_OF_CLUSTERS[0])) for seed in done}
    reports = {
        s: [read_reports(Run.open_complete(study.run_of(seed, s)))["test"] for seed in done]
        for s in NUMBERS_OF_CLUSTERS
    }
    comparisons = []
    for seed, run in runs.items():
        # The next seed's base is the other member of a deep ensemble.
        siblings = [runs[done[(done.index(seed) + step) % len(done)]] for step in range(1, len(done))]
        comparisons.append(
            compare_run(run, splits, superclasses=study.superclasses, siblings=siblings, train=False, allow_shared=True)
        )
    notes += _notes_of_seeds({seed: comparison.notes for seed, comparison in zip(done, comparisons, strict=True)})
    result = summarise(reports, comparisons, done, paper_figures(), notes)
    write_whole(study.out / PAGE, render(result, splits.about.rstrip(".") + ".").encode())
    return result


def _notes_of_seeds(notes: Mapping[int, Sequence[str]]) -> list[str]:
    """What is said of every seed is said once; what is said of some, with their names."""
    seeds_of: dict[str, list[str]] = {}
    for seed, some in notes.items():
        for note in some:
            seeds_of.setdefault(note, []).append(str(seed))
    return [
        note if len(seeds) == len(notes) else f"seed {', '.join(seeds)}: {note}" for note, seeds in seeds_of.items()
    ]


def _finished(place: Path) -> bool:
    return (place / MANIFEST).exists() and Run.open(place).manifest.complete


def paper_figures() -> PaperFigures:
    """What the paper reports."""
    values = yaml.safe_load(_resource("figures"))
    return PaperFigures(
        values["base"] / 100,
        values["ensemble"] / 100,
        {s: tuple(tuple(v / 100 for v in row) for row in rows) for s, rows in values["clusters"].items()},
    )


def _resource(name: str) -> str:
    return resources.files("coterie.studies.reproduction").joinpath(f"recipes/{name}.yaml").read_text(encoding="utf-8")
