"""``coterie fit``."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from coterie.cli.arguments import TRUST, make_console
from coterie.config import EngineSettings, FitSettings
from coterie.config.recipes import RECIPE_GROUPS
from coterie.errors import DeclinedError, SettingsError, TrainingError

if TYPE_CHECKING:  # torch and rich are imported when a run begins, not for --help
    from rich.console import Console

    from coterie.pipeline.plan import Plan
    from coterie.pipeline.prepare import Prepared


# In points: no forecast is below it.
LOWEST_GAIN = -100.0
# Where one of them is given, what the specialists of a RUN were is not taken over.
RECIPE_OPTIONS = {"recipe", "budget", "storage"}


def make_fit(defaults: FitSettings, options: Set[str] = frozenset()) -> Callable[..., None]:
    """The command.

    Args:
        defaults: the settings of a file, as the options' defaults.
        options: that were given, by the names of settings: the defaults of others may depend on these.
    """

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
        gain: Annotated[
            float,
            tyro.conf.arg(
                metavar="POINTS",
                help="where specialists take more than two minutes: the first of them, a pilot, forecast what all "
                "would gain, and the rest is trained only if that is at least so much; with --seeds all are trained",
            ),
        ] = 0.5,
        anyway: Annotated[
            bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="train all specialists, whatever the pilot says")
        ] = False,
    ) -> None:
        """Train base and specialists, judge them on test data, and write a report."""
        del config  # read before the options were, as a run's settings: it gives their defaults
        base_run = Path(base) if base is not None and is_run(base) else None
        anew = base_run is not None and bool(options & RECIPE_OPTIONS)
        settings = named_settings(settings, _open_to_recipe(defaults) if anew else defaults, options)
        if base is not None and base_run is None:
            settings = FitSettings.from_values({**settings.given(), "backbone": base})
        _check(seeds, base_run, base_only=base_only)
        if not 0 <= gain < 100:
            raise SettingsError(f"--gain {gain}: must be at least 0 and below 100 points")
        if base_run is not None:
            from coterie.backbones.base import refuse_untrusted

            refuse_untrusted(settings.backbone, trust)
        if seeds > 1:
            _fit_seeds(out, settings, engine, seeds, dry_run=dry_run)
        else:
            asked = LOWEST_GAIN if anyway else gain
            _fit(out, settings, engine, base_run, base_only=base_only, dry_run=dry_run, gain=asked)

    return fit


def named_settings(parsed: FitSettings, defaults: FitSettings, options: Collection[str]) -> FitSettings:
    """What a file or an option names, of settings as they were parsed; the rest has the defaults that go with it."""
    return FitSettings.from_values(_named_values(parsed.to_values(), defaults.given(), options, ""))


def _open_to_recipe(defaults: FitSettings) -> FitSettings:
    """The settings of a run without what its recipe came to, where an option asks for another."""
    given = defaults.given()
    return FitSettings.from_values({name: group for name, group in given.items() if name not in RECIPE_GROUPS})


def _named_values(parsed: Any, before: Any, options: Collection[str], prefix: str) -> dict[str, Any]:
    values = dict(before)
    for name, value in parsed.items():
        if isinstance(value, dict):
            inner = _named_values(value, before.get(name) or {}, options, f"{prefix}{name}.")
            if inner:
                values[name] = inner
        elif f"{prefix}{name}" in options or f"{prefix}no_{name}" in options:
            values[name] = value
    return values


def is_run(place: str) -> bool:
    """Whether there is a run folder, not the name of a backbone."""
    return os.path.lexists(Path(place) / "manifest.json")


def _check(seeds: int, base_run: Path | None, *, base_only: bool) -> None:
    if seeds < 1 or (seeds > 1 and base_run is not None):
        raise SettingsError(f"--seeds {seeds}: at least 1; and 1 where --base is a run, which has a seed of its own")
    if base_only and seeds > 1:
        raise SettingsError(f"--base-only with --seeds {seeds}: headroom looks at one run")


def _fit(
    out: Path,
    settings: FitSettings,
    engine: EngineSettings,
    base_run: Path | None,
    *,
    base_only: bool,
    dry_run: bool,
    gain: float,
) -> None:
    from coterie.cli.terminal.progress import make_progress
    from coterie.pipeline.base import dismiss_helpers, help_train_base
    from coterie.pipeline.defaults import with_backbone
    from coterie.pipeline.fit import fit, fit_base
    from coterie.pipeline.plan import CorrectedPlan
    from coterie.pipeline.prepare import prepare
    from coterie.pipeline.threads import settle_threads
    from coterie.run.folder import Run
    from coterie.system.limits import Limits
    from coterie.system.load import OthersLoad
    from coterie.system.ranks import Ranks, forget_launcher_variables

    forget_launcher_variables()
    settings, why = with_backbone(settings, out)
    if not Ranks.of_environment().leads:
        if not dry_run:
            help_train_base(settings, lambda: prepare(settings, base_run=base_run, trust=settings.backbone))
        return
    console, limits = make_console(), Limits(settings.max_time, settings.max_memory)
    run = Run.create_or_resume(out, settings)
    if run.complete:
        dismiss_helpers(settings)
        run.check_whole()
        console.print(f"{out} is finished; nothing to do.", highlight=False)
        _print_outcome(console, out)
        return
    if dry_run:
        load = OthersLoad()
        prepared = prepare(settings, base_run=base_run, trust=settings.backbone)
        _announce(console, settle_threads(prepared, run, load, make_progress(console)), out, why)
        return

    def announce(prepared: Prepared) -> None:
        progress.plan = _announce(console, prepared, out, why)

    options: dict[str, Any] = {"base_run": base_run, "limits": limits, "announce": announce}
    try:
        with make_progress(console) as shown:
            progress = CorrectedPlan(shown)
            if base_only:
                fit_base(settings, out, progress=progress, **options)
            else:
                fit(settings, out, progress=progress, engine=engine, gain=gain, **options)
    except DeclinedError as answer:
        console.print(f"Don't. {answer}", highlight=False, markup=False, soft_wrap=True)
        return
    if base_only:
        console.print(f"the base is there: coterie headroom {out} --out DIR", highlight=False, soft_wrap=True)
    else:
        _print_outcome(console, out)


def _fit_seeds(out: Path, settings: FitSettings, engine: EngineSettings, seeds: int, *, dry_run: bool) -> None:
    from coterie.cli.terminal.progress import make_progress
    from coterie.cli.terminal.seeds import print_seed_runs
    from coterie.pipeline.defaults import with_backbone
    from coterie.pipeline.prepare import prepare
    from coterie.pipeline.runs import fit_seeds, tasks_of_seeds
    from coterie.run.reporting import read_reports

    console = make_console()
    settings, why = with_backbone(settings, out / f"seed-{settings.seed}")

    def announce(prepared: Prepared) -> None:
        _announce(console, prepared, out / f"seed-{settings.seed}", why, f"; {seeds} seeds, each:")

    if dry_run:
        announce(prepare(tasks_of_seeds(settings, out, seeds)[0].settings))
        return
    with make_progress(console) as progress:
        runs = fit_seeds(settings, out, seeds, progress=progress, engine=engine, announce=announce)
    print_seed_runs(console, {title: read_reports(run)["test"] for title, run in runs.finished.items()})
    if runs.failed:
        raise TrainingError("\n".join(runs.failed) + "\nThe same command goes on with what is missing")


def _announce(console: Console, prepared: Prepared, out: Path, why: str, more: str = "") -> Plan:
    """What the data lacks, what was chosen and found, and the plan."""
    from coterie.cli.terminal.plan import print_plan, print_shorter, print_skipped
    from coterie.pipeline.plan import make_plan
    from coterie.run.names import SKIPPED_FILE

    print_skipped(console, prepared.splits.skipped, out / SKIPPED_FILE)
    for note in filter(None, (why, *prepared.notes)):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    plan = make_plan(prepared)
    print_plan(console, plan, prepared.splits.about + more)
    if why:
        print_shorter(console, plan)
    return plan


def _print_outcome(console: Console, out: Path) -> None:
    from coterie.cli.terminal.report import print_report, rule_line
    from coterie.run.caution import caution_on
    from coterie.run.folder import Run
    from coterie.run.reporting import read_reports
    from coterie.run.values import rule_of

    run = Run.open_complete(out)
    data = run.manifest.data
    print_report(console, read_reports(run)["test"], data.classes, data.n_unknown, caution_on(data, "test"))
    console.print(
        f"rule: {rule_line(rule_of(run.manifest))}; for others and their limits: coterie tune {out}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)
