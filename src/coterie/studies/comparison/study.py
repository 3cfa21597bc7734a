"""``coterie compare``: the controls of a run trained, and the table that weighs them against its specialists."""

from __future__ import annotations

from collections.abc import Sequence

from coterie.backbones.base import refuse_untrusted
from coterie.config import EngineSettings
from coterie.data.shared import refuse_shared
from coterie.data.splits import Splits
from coterie.engine import check_engine
from coterie.errors import ArtifactError
from coterie.pipeline.runs import do_all, resources_of
from coterie.progress import SILENT, Progress
from coterie.run.caution import caution_on
from coterie.run.folder import FinishedRun, Run
from coterie.run.values import specialist_seconds
from coterie.studies.comparison.contenders import contenders_of
from coterie.studies.comparison.controls import add_flipped
from coterie.studies.comparison.page import render
from coterie.studies.comparison.tables import Comparison, compare
from coterie.studies.comparison.tasks import ControlTask, control_tasks
from coterie.system.limits import Limits

COMPARISON_FILE = "comparison.json"
COMPARISON_PAGE = "comparison.html"


def compare_run(
    run: FinishedRun,
    splits: Splits,
    *,
    superclasses: str | None = None,
    members: int = 0,
    siblings: Sequence[Run] = (),
    train: bool = True,
    allow_shared: bool = False,
    trust: str | None = None,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    progress: Progress = SILENT,
) -> Comparison:
    """Weigh a finished run against what else its budget could have bought, and keep the table in the run folder.

    Args:
        run: a finished run.
        splits: its data.
        superclasses: given groups of the classes, as ``partition.groups``.
        members: further bases to train, for deep ensembles.
        siblings: finished runs on the same splits with other seeds, whose bases serve as such members.
        train: train the controls that are missing; else compare with those that are there.
        allow_shared: go on where validation and test share samples.
        trust: as for ``load_ensemble``, of the run and of its controls.
        engine: who trains the controls; it changes nothing in them.
        progress: progress callback.

    Raises:
        DataError: validation and test share samples.
        ArtifactError: another process writes to the run, it was changed in part, or its base can only be built by code
            that nobody said to trust.
        LimitError: a limit that the run's settings have is reached; the same call goes on.
        CoterieError: whatever training can raise.
    """
    if run.manifest.changes and run.manifest.changes[-1].kind == "distil":
        raise ArtifactError(
            f"{run.path} was distilled from {run.manifest.changes[-1].run} and has no specialists; compare that run"
        )
    if run.manifest.changes:
        raise ArtifactError(
            f"{run.path} was made of {run.manifest.changes[-1].run} and further samples, which its data source lacks; "
            "compare that run, or give the source all samples and train anew"
        )
    refuse_untrusted(run.settings.backbone, trust)
    notes = [*filter(None, [caution_on(run.manifest.data, "test")]), *refuse_shared(splits, allow_shared)]
    if train:
        check_engine(engine)
    with run.writing():
        add_flipped(run, splits, progress, trust)
        if train:
            tasks = control_tasks(run, splits, superclasses, members, trust=trust)
            _train_controls(run, splits, tasks, engine, progress)
        found = contenders_of(run, splits, siblings, trust)
        comparison = compare(found.answers, found.validation_N, found.test_N, (*notes, *found.notes))
        run.write_json(COMPARISON_FILE, comparison.to_values())
        run.write(COMPARISON_PAGE, render(comparison, splits.about.rstrip(".") + ".").encode())
    return comparison


def _train_controls(
    run: FinishedRun, splits: Splits, tasks: Sequence[ControlTask], engine: EngineSettings, progress: Progress
) -> None:
    """Do what is left of the controls; the first that failed is raised after the others are done."""
    seconds = len(tasks) * specialist_seconds(run.manifest)
    resources = resources_of([run.settings], seconds)
    for outcome in do_all(tasks, splits, resources, engine, progress, Limits()):
        outcome.unwrap()
