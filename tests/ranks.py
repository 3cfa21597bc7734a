"""What one of several ranks does: started by torchrun as a script, or, sooner, forked from a process that has imported
everything. ``python tests/ranks.py OUT MODE``.
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import coterie
from coterie.cli import LIMIT_REACHED
from coterie.config import FitSettings
from coterie.errors import LimitError
from coterie.pipeline.base import help_train_base
from coterie.pipeline.fit import fit_base
from coterie.pipeline.prepare import prepare
from coterie.progress import Progress
from coterie.system.limits import Limits
from coterie.training import loop
from helpers import make_settings, make_splits


class Telling(Progress):
    """Prints what it is told."""

    def note(self, text: str) -> None:
        say(text)


class AtStep(Limits):
    """A limit that is reached at the ninth step."""

    def __init__(self) -> None:
        self.left = 9

    def check(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise LimitError("enough")


def dying(step: Callable[..., object], sign: Path) -> Callable[..., object]:
    """``step``, which kills the process at the 20th call and leaves a sign."""
    done: list[None] = []

    def die(*arguments: object) -> object:
        done.append(None)
        if len(done) == 20:
            sign.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments)

    return die


def say(line: str) -> None:
    """In one write, so that two ranks do not mix within a line."""
    sys.stdout.flush()
    os.write(1, f"{line}\n".encode())


def work(out: Path, mode: str) -> int:
    """Train as one of two ranks.

    Args:
        out: the run.
        mode: "": to the end; "stops": at a limit; "dies": rank 1 does; "init:FILE": the base alone, from these weights
            at a rate that leaves them.

    Returns:
        The exit code.
    """
    values, rank = make_settings().to_values(), os.environ["RANK"]
    base: dict[str, object] = values["base"]
    initial = mode.removeprefix("init:") if mode.startswith("init:") else None
    if mode == "dies":
        base["epochs"] = 100_000
        if rank == "1":
            loop.training_step = dying(loop.training_step, out.with_suffix(".died"))  # type: ignore[assignment]
    elif initial:
        values["init"] = initial
        base.update(epochs=1, learning_rate=1e-9)
    settings, splits = FitSettings.from_values(values), make_splits()
    try:
        if rank == "0":
            if initial:
                fit_base(settings, out, splits=splits)
            else:
                limits = AtStep() if mode == "stops" else None
                coterie.fit(settings, out, splits=splits, progress=Telling(), limits=limits)
        else:
            prepared = []
            help_train_base(settings, lambda: prepared.append(prepare(settings, splits=splits)) or prepared[0])
            if initial:
                say(f"rank {rank} ends with {next(prepared[0].base.network.parameters()).flatten().tolist()}")
            return 0
    except LimitError as error:
        say(f"rank {rank} stops: {error}")
        return LIMIT_REACHED
    say(f"rank {rank} goes on")
    return 0


def _forked(rank: int, port: int, out: Path, mode: str, said: Path) -> None:
    # What torchrun tells its ranks.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "forked"}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(work(out, mode))


def free_port() -> int:
    """One that nothing listens to, of this machine alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def two_forked(out: Path, mode: str, said: Path, seconds: float) -> tuple[list[int | None], str]:
    """Two ranks that train without torchrun.

    Args:
        out: the run.
        mode: of ``work``.
        said: the file to which they write what they say.
        seconds: after which they are ended.

    Returns:
        The exit code of each, and what both said.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ranks"])
    port = free_port()
    ranks = [context.Process(target=_forked, args=(rank, port, out, mode, said)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(seconds)
        process.kill()
        process.join()
    return [process.exitcode for process in ranks], said.read_text()


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1]), sys.argv[2]))
