"""``coterie push``."""

from __future__ import annotations

from typing import Annotated

import tyro

from coterie.cli.arguments import RunFolder


def push(
    run: RunFolder,
    name: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NAME", help="OWNER/NAME on the hub; made where it is not there"),
    ],
    private: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="a new one is seen by its owner alone")
    ] = False,
) -> None:
    """Put a finished run on the Hugging Face hub with a model card; samples of the data stay behind."""
    from coterie.run.hub import push_run

    print(push_run(run, name, private=True if private else None))  # noqa: T201 - the answer
