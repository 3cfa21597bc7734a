"""``coterie predict``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import tyro

from coterie.cli.arguments import TRUST, RunFolder, make_console
from coterie.errors import SettingsError
from coterie.system.output import say, to_json


def predict(
    run: RunFolder,
    inputs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="INPUT",
            help="what the run was trained on: image files; texts, or files with a text a line (-: standard input) or "
            "a column of them; csv, JSON lines or parquet files of rows; .npz or .npy files of features",
        ),
    ],
    format: Annotated[Literal["table", "jsonl"], tyro.conf.arg(help="a table, or a JSON object a line")] = "table",  # noqa: A002 - an option's name
    top: Annotated[int, tyro.conf.arg(help="classes listed for base and specialist")] = 3,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
    skip_broken: Annotated[
        bool,
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.arg(help="leave out broken images and empty texts, naming them"),
    ] = False,
) -> None:
    """Classify new samples: class, probability, whether routed and where, and what the base had said."""
    from coterie.data import read_new
    from coterie.run.folder import Run
    from coterie.run.load import load_ensemble
    from coterie.training.fabric import configure_process

    if top < 1:
        raise SettingsError(f"--top {top}: must be at least 1")
    if not inputs:
        raise SettingsError("predict needs what is to be classified: coterie predict RUN INPUT ...")
    settings = Run.open(run).settings
    configure_process(settings.hardware)
    ensemble = load_ensemble(run, trust=trust)
    new = read_new(ensemble.preprocessing, inputs, skip_broken=skip_broken, text=settings.data.text)
    for name in new.skipped:
        say(f"skipped: {name}")
    for row in new.samples.shortened():
        say(f"too long, and cut: {new.names[row][:60]}...")
    rows = list(zip(new.names, ensemble.explain(new.samples, top), strict=True))
    if format == "jsonl":
        for name, explanation in rows:
            print(to_json({new.kind: name, **asdict(explanation)}))  # noqa: T201 - the answer
    else:
        from coterie.cli.terminal.predictions import print_predictions

        print_predictions(make_console(), rows)
