"""``coterie compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from coterie.cli.arguments import TRUST, make_console
from coterie.config import EngineSettings
from coterie.errors import InputError, SettingsError
from coterie.system.output import to_json

if TYPE_CHECKING:
    from coterie.studies.comparison.tables import Comparison


def compare(
    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="a finished run")] = None,
    logits: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE.npz",
            help="instead of a run: logits_validation, labels_validation, logits_test, labels_test; and for each "
            "further classifier logits_validation_NAME, logits_test_NAME",
        ),
    ] = None,
    superclasses: Annotated[
        str | None, tyro.conf.arg(metavar="FILE|column:NAME", help="given groups of the classes, as --partition.groups")
    ] = None,
    members: Annotated[int, tyro.conf.arg(help="further bases to train: 1 and 3 give deep ensembles of 2 and 4")] = 1,
    train: Annotated[bool, tyro.conf.arg(help="train the controls that are missing")] = True,
    allow_shared: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="go on where validation and test share samples")
    ] = False,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
    engine: Annotated[EngineSettings, tyro.conf.arg(name="", help="")] = EngineSettings(),  # noqa: B008 - frozen
    as_json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="json", help="print JSON")] = False,
) -> None:
    """Weigh a run's specialists against what else the same budget could have bought: trains and judges controls."""
    if (run is None) == (logits is None):
        raise SettingsError("compare takes the folder of a run, or --logits FILE; give one of them")
    if members < 0:
        raise SettingsError(f"--members {members}: must be at least 0")
    if run is not None:
        result = _compare_run(run, superclasses, members, train, allow_shared, trust, engine)
    else:
        assert logits is not None
        result = _compare_logits(logits)
    if as_json:
        print(to_json(result.to_values(), indent=2))  # noqa: T201 - the answer
        return
    from coterie.cli.terminal.comparison import print_comparison

    console = make_console()
    print_comparison(console, result)
    if run is not None:
        console.print(f"page: {run / 'comparison.html'}", highlight=False, soft_wrap=True)


def _compare_run(
    run: Path,
    superclasses: str | None,
    members: int,
    train: bool,
    allow_shared: bool,
    trust: str | None,
    engine: EngineSettings,
) -> Comparison:
    from coterie.cli.terminal.progress import make_progress
    from coterie.data import load
    from coterie.run.folder import Run
    from coterie.run.values import preprocessing_of
    from coterie.studies.comparison.study import compare_run

    folder = Run.open_complete(run)
    settings = folder.settings
    splits = load(settings.data, settings.seed, preprocessing_of(folder))
    with make_progress(make_console()) as progress:
        return compare_run(
            folder,
            splits,
            superclasses=superclasses,
            members=members,
            train=train,
            allow_shared=allow_shared,
            trust=trust,
            engine=engine,
            progress=progress,
        )


def _compare_logits(file: Path) -> Comparison:
    from coterie.logits_file import read_logits
    from coterie.studies.comparison.tables import compare_logits

    validation, test = read_logits(file)
    if test is None:
        raise InputError(f"{file} has no logits_test; the table is of test samples")
    return compare_logits(validation, test)
