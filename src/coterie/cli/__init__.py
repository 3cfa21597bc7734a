"""The command line: a face on settings and pipeline, without logic of its own; a command a file. Torch is imported when
it is used.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

import coterie
from coterie.cli.compare import compare
from coterie.cli.distil import distil
from coterie.cli.evaluate import evaluate
from coterie.cli.export import export
from coterie.cli.fit import is_run, make_fit
from coterie.cli.headroom import headroom
from coterie.cli.info import info
from coterie.cli.partition import partition
from coterie.cli.predict import predict
from coterie.cli.push import push
from coterie.cli.repair import repair
from coterie.cli.report import report
from coterie.cli.reproduce import reproduce
from coterie.cli.revise import add_class, refit
from coterie.cli.serve import serve
from coterie.cli.short_help import HELP, HELP_ALL, REST, shown_alone
from coterie.cli.signals import Terminated, interrupts
from coterie.cli.tune import tune
from coterie.config import FitSettings
from coterie.errors import CoterieError, LimitError, SettingsError
from coterie.system.openmp import wait_without_spinning
from coterie.system.output import OutputLost, guarded_streams, say

__all__ = ["main"]

# EX_TEMPFAIL of sysexits.h: try again.
LIMIT_REACHED = 75
# Columns of a terminal. In fewer no table can be read, and tyro does not end to break the lines of its help.
NARROWEST = 20
# Commands that leave something unfinished where their output is closed.
WRITING = ("fit", "tune", "headroom", "partition", "compare", "reproduce", "refit", "add-class", "distil", "report")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for an error that coterie names or for output that was lost, 75 for a
    limit that was reached, 130 for Ctrl-C, 143 for SIGTERM.

    Args:
        arguments: default: the process's own, which then ends with the command.
    """
    own = arguments is None
    if own:
        wait_without_spinning()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with interrupts(until_exit=own):
        try:
            with guarded_streams():
                return _main(arguments)
        except OutputLost as lost:
            return _without_output(arguments, lost.error)
        except KeyboardInterrupt as interrupt:
            say("\ninterrupted: what a run folder holds is kept, and the same command goes on with it")
            return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def _main(arguments: Sequence[str]) -> int:
    try:
        _run(arguments)
    except LimitError as error:
        say(f"stopped: {error}\nThe state is kept in the run folder; the same command goes on from there")
        return LIMIT_REACHED
    except (CoterieError, OSError) as error:
        # What the system refuses, such as a folder without permission, is no fault of the program either.
        say(f"error: {error}")
        return 1
    return 0


def _run(arguments: Sequence[str]) -> None:
    if list(arguments) in (["--version"], ["-V"]):
        print(f"coterie {coterie.__version__}")  # noqa: T201 - the answer
        return
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    if list(arguments[:1]) == ["fit"]:
        arguments = [re.sub(r"^--passes(?==|$)", "--gate.passes", argument) for argument in arguments]
    short = list(arguments[:1]) == ["fit"] and HELP_ALL not in arguments and bool(HELP & set(arguments))
    _commands(_settings_file(arguments), _options(arguments), short=short).cli(
        prog="coterie",
        description="Specialists for the classes your classifier confuses, and an honest account of what they buy. "
        "`coterie fit --out RUN` runs everything on an embedded data set; `coterie COMMAND --help` tells more.",
        args=["--help" if argument == HELP_ALL else argument for argument in arguments],
        sort_subcommands=False,
        registry=shown_alone() if short else None,
    )


def _without_output(arguments: Sequence[str], error: OSError) -> int:
    if isinstance(error, BrokenPipeError) and (not arguments or arguments[0] not in WRITING):
        return 0  # `coterie predict ... | head` has seen enough
    say(
        f"error: cannot write to standard output: {error.strerror}; what a run folder holds is kept, and the same "
        "command goes on with it"
    )
    return 1


def _settings_file(arguments: Sequence[str]) -> FitSettings:
    """The settings in the file that --config names, or of the run that --base names: the options' defaults."""
    config, base = _value_of("--config", arguments), _value_of("--base", arguments)
    if config == "":
        raise SettingsError("--config needs the path of a YAML file")
    if config is not None:
        return FitSettings.from_yaml(Path(config))
    if base is not None and is_run(base):
        from coterie.run.folder import Run

        return Run.open(Path(base)).settings.untracked()
    return FitSettings()


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """What an option is given; empty where it is given nothing, None where it is not there."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, value = argument.partition("=")
        if name == option:
            return value or following
    return None


def _options(arguments: Sequence[str]) -> set[str]:
    """Names of the settings that options give."""
    return {
        argument.removeprefix("--").partition("=")[0].replace("-", "_")
        for argument in arguments
        if argument.startswith("--")
    }


def _commands(defaults: FitSettings, options: set[str], *, short: bool) -> tyro.extras.SubcommandApp:
    app, fit = tyro.extras.SubcommandApp(), make_fit(defaults, options)
    if short:
        fit.__doc__ = f"{fit.__doc__}\n\n{REST}"
    for command in (
        fit,
        evaluate,
        tune,
        predict,
        export,
        serve,
        push,
        headroom,
        partition,
        compare,
        reproduce,
        refit,
        add_class,
        distil,
        report,
        repair,
        info,
    ):
        app.command(command)
    return app
