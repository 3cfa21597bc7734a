"""``coterie fit``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from coterie.cli.arguments import TRUST, make_console
from coterie.config import EngineSettings, FitSettings
from coterie.errors import SettingsError, TrainingError


def make_fit(defaults: FitSettings) -> Callable[..., None]:
    """The command, with the settings of a file as the options' defaults."""

    def fit(
        out: Annotated[Path, tyro.conf.arg(metavar="RUN", help="folder for the run; an unfinished one goes on")],
        settings: Annotated[FitSettings, tyro.conf.arg(name="", help="")] = defaults,
        engine: Annotated[EngineSettings, tyro.conf.arg(name="", help="")] = EngineSettings(),  # noqa: B008 - frozen
        config: Annotated[
            Path | None, tyro.conf.arg(metavar="FILE", help="YAML file of settings; options go over it")
        ] = None,
        base: Annotated[
            str | None,
            tyro.conf.arg(
                metavar="RUN|BACKBONE",
                help="the classifier to start from: a RUN folder, whose trained base and settings are taken (options "
                "go over them), or a name as --backbone takes",
            ),
        ] = None,
        trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
        seeds: Annotated[
            int, tyro.conf.arg(help="runs to do, with --seed and those after it, in RUN/seed-N on the same splits")
        ] = 1,
        base_only: Annotated[
            bool,
            tyro.conf.FlagCreatePairsOff,
            tyro.conf.arg(help="stop when the base is there, for `coterie headroom RUN`; without it, the run goes on"),
        ] = False,
        dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="print the plan and stop")] = False,
    ) -> None:
        """Train base and specialists, judge them on test data, and write a report."""
        del config  # read before the options were, as a run's settings: it gives their defaults
        if seeds < 1 or (seeds > 1 and base is not None and is_run(base)):
            raise SettingsError(
                f"--seeds {seeds}: at least 1; and 1 where --base is a run, which has a seed of its own"
            )
        base_run = Path(base) if base is not None and is_run(base) else None
        if base is not None and base_run is None:
            settings = settings.model_copy(update={"backbone": base})
        if base_only and seeds > 1:
            raise SettingsError(f"--base-only with --seeds {seeds}: headroom looks at one run")
        if seeds > 1:
            _fit_seeds(out, settings, engine, seeds, dry_run)
        else:
            _fit(out, settings, engine, base_run, trust, base_only=base_only, dry_run=dry_run)

    return fit


def is_run(place: str) -> bool:
    """Whether there is a run folder, not the name of a backbone."""
    return (Path(place) / "manifest.json").is_file()


def _fit(
    out: Path,
    settings: FitSettings,
    engine: EngineSettings,
    base_run: Path | None,
    trust: str | None,
    *,
    base_only: bool,
    dry_run: bool,
) -> None:
    from coterie.backbones.base import refuse_untrusted
    from coterie.cli.terminal.plan import print_plan
    from coterie.cli.terminal.progress import make_progress
    from coterie.cli.terminal.report import print_report, rule_line
    from coterie.engine import check_engine
    from coterie.pipeline import fit as pipeline
    from coterie.pipeline.plan import make_plan
    from coterie.run.folder import Run
    from coterie.run.reporting import read_reports
    from coterie.run.values import labels_of, rule_of
    from coterie.system.limits import Limits
    from coterie.system.lock import refuse_if_held
    from coterie.system.ranks import Ranks

    if Ranks.of_environment().rank > 0:
        if not dry_run:
            pipeline.help_train_base(settings, base_run=base_run)
        return
    console, limits = make_console(), Limits(settings.max_time, settings.max_memory)
    if base_run is not None:
        refuse_untrusted(settings.backbone, trust)
    run = Run.create_or_resume(out, settings)
    if run.manifest.complete:
        console.print(f"{out} is finished; nothing to do.", highlight=False)
        pipeline.dismiss_helpers(settings)
    else:
        if not dry_run:
            refuse_if_held(out)
            check_engine(engine)
        splits = pipeline.load_splits(settings, base_run)
        for name in splits.skipped:
            console.print(f"skipped, cannot be decoded: {name}", highlight=False, markup=False)
        print_plan(console, make_plan(settings, splits, base_run), splits.about)
        if dry_run:
            return
        if base_only:
            with make_progress(console) as progress:
                pipeline.fit_base(settings, out, splits=splits, base_run=base_run, progress=progress, limits=limits)
            console.print(f"the base is there: coterie headroom {out} --out DIR", highlight=False, soft_wrap=True)
            return
        with make_progress(console) as progress:
            pipeline.fit(
                settings, out, splits=splits, base_run=base_run, progress=progress, engine=engine, limits=limits
            )
        run = Run.open(out)
    print_report(console, read_reports(run)["test"], labels_of(run.manifest).names)
    console.print(
        f"rule: {rule_line(rule_of(run.manifest))}; for others and their limits: coterie tune {out}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)


def _fit_seeds(out: Path, settings: FitSettings, engine: EngineSettings, seeds: int, dry_run: bool) -> None:
    from coterie.cli.terminal.plan import print_plan
    from coterie.cli.terminal.progress import make_progress
    from coterie.cli.terminal.seeds import print_seed_runs
    from coterie.engine import check_engine
    from coterie.pipeline.fit import load_splits
    from coterie.pipeline.plan import make_plan
    from coterie.pipeline.runs import fit_all, tasks_of_seeds
    from coterie.run.folder import Run
    from coterie.run.reporting import read_reports
    from coterie.system.limits import Limits
    from coterie.system.lock import refuse_if_held

    console, limits = make_console(), Limits(settings.max_time, settings.max_memory)
    tasks = tasks_of_seeds(settings, out, seeds)
    if not dry_run:
        refuse_if_held(out)
        check_engine(engine)
    splits = load_splits(tasks[0].settings)
    print_plan(console, make_plan(settings, splits), f"{splits.about}; {seeds} seeds, each:")
    if dry_run:
        return
    with make_progress(console) as progress:
        outcomes = fit_all(tasks, splits, engine, progress, limits)
    done = [task for task, outcome in zip(tasks, outcomes, strict=True) if outcome.error is None]
    print_seed_runs(console, {task.title: read_reports(Run.open(task.out))["test"] for task in done})
    failed = [f"{tasks[outcome.number].title}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    if failed:
        raise TrainingError("\n".join(failed) + "\nThe same command goes on with what is missing")
