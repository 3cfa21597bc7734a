"""``coterie predict``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import tyro

from coterie.cli.arguments import TRUST, RunFolder, make_console
from coterie.errors import SettingsError


def predict(
    run: RunFolder,
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE", help="image files")],
    format: Annotated[Literal["table", "jsonl"], tyro.conf.arg(help="a table, or a JSON object a line")] = "table",  # noqa: A002 - an option's name
    top: Annotated[int, tyro.conf.arg(help="classes listed for base and specialist")] = 3,
    trust: Annotated[str | None, tyro.conf.arg(metavar="MODULE:FUNCTION", help=TRUST)] = None,
    skip_broken: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="leave out files that are not images, naming them")
    ] = False,
) -> None:
    """Classify image files: class, probability, whether routed and where, and what the base had said."""
    from coterie import artifact
    from coterie.data import read_images

    if top < 1:
        raise SettingsError(f"--top {top}: must be at least 1")
    ensemble = artifact.load_ensemble(run, trust=trust)
    images, kept, skipped = read_images(files, ensemble.preprocessing, skip_broken=skip_broken)
    for name in skipped:
        print(f"skipped: {name}", file=sys.stderr)  # noqa: T201
    explanations = ensemble.explain(images, top)
    rows = [(str(path), explanation) for path, explanation in zip(kept, explanations, strict=True)]
    if format == "jsonl":
        for name, explanation in rows:
            print(json.dumps({"file": name, **asdict(explanation)}, ensure_ascii=False))  # noqa: T201 - the answer
    else:
        from coterie.terminal.predictions import print_predictions

        print_predictions(make_console(), rows)
