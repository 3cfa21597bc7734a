"""``coterie reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from coterie.cli.arguments import make_console
from coterie.config import EngineSettings
from coterie.errors import SettingsError


def reproduce(
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="folder of the study; an unfinished one goes on")],
    recipe: Annotated[
        Literal["cpu", "paper"],
        tyro.conf.arg(help="cpu: a small network, hours on two cores; paper: WRN-28-10 for 200 epochs, for a GPU"),
    ] = "cpu",
    seeds: Annotated[int, tyro.conf.arg(help="number of seeds, from 0 on")] = 1,
    first_seed: Annotated[int, tyro.conf.arg(help="seeds are counted from this one")] = 0,
    source: Annotated[
        str | None, tyro.conf.arg(help="where CIFAR-100 is, as fit's --data.source; default: downloaded")
    ] = None,
    superclasses: Annotated[
        str | None,
        tyro.conf.arg(metavar="FILE|column:NAME", help="the data set's superclasses: a control; none where empty"),
    ] = "column:coarse_label",
    base_epochs: Annotated[
        int | None,
        tyro.conf.arg(help="epochs of the base instead of the recipe's, for one trained short or long"),
    ] = None,
    engine: Annotated[EngineSettings, tyro.conf.arg(name="", help="")] = EngineSettings(),  # noqa: B008 - frozen
    tables_only: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="train nothing; draw the tables of what is finished")
    ] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="say what it costs and stop")] = False,
) -> None:
    """Run the paper's experiment: 3, 8 and 9 clusters, every control, over seeds; its tables beside the paper's."""
    from coterie.cli.terminal.progress import make_progress
    from coterie.cli.terminal.reproduction import print_cost, print_reproduction
    from coterie.data import load
    from coterie.studies.reproduction import study

    if seeds < 1 or first_seed < 0:
        raise SettingsError(f"--seeds {seeds} --first-seed {first_seed}: at least 1 seed, counted from 0 or above")
    settings = study.recipe(recipe, base_epochs)
    if source is not None:
        settings = settings.model_copy(update={"data": settings.data.with_source(source)})
    console = make_console()
    plan = study.ReproductionStudy(settings, out, tuple(range(first_seed, first_seed + seeds)), superclasses or None)
    splits = load(settings.data, first_seed)
    if tables_only:
        result = study.gather(plan, splits)
    else:
        print_cost(console, plan, splits)
        if dry_run:
            return
        with make_progress(console) as progress:
            result = study.reproduce(plan, splits, progress, engine)
    print_reproduction(console, result)
    console.print(f"page: {out / study.PAGE}", highlight=False, soft_wrap=True)
