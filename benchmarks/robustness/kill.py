"""Does a run that is killed at random moments end as if it had not been?

Runs `coterie fit --config examples/tiny.yaml`, kills it (SIGKILL) at random moments and starts it again, until it has
been killed so many times. Whenever a run ends all the same, it is compared with the uninterrupted one, byte for byte,
and another begins. With a FOLDER, which is kept, a benchmark that was itself ended goes on where it was.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.shared import EXAMPLES, command, write_result

TINY = EXAMPLES / "tiny.yaml"
# A start lives for at most this share of an uninterrupted run, so that most are killed and each run takes several.
LONGEST_SHARE = 0.3
MOST_FAILURES = 5


@dataclass
class Account:
    """What has happened so far; times in seconds."""

    life: float = 0.0
    starts: int = 0
    kills: list[str] = field(default_factory=list)
    equal: int = 0
    unequal: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def finished(self) -> int:
        """Runs that came to an end, in whatever way."""
        return self.equal + self.unequal + len(self.failures)


def fit(out: Path) -> None:
    """The command, as it is typed; its output goes to a file."""
    from coterie.cli import main

    log = os.open(out.with_suffix(".log"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(main(["fit", "--config", str(TINY), "--out", str(out)]))


def result(out: Path) -> dict[str, bytes]:
    """Weights, logits, figures and history."""
    kept = [out / "metrics.json", out / "history.json", *out.rglob("*.safetensors")]
    return {str(file.relative_to(out)): file.read_bytes() for file in kept}


def where(out: Path) -> str:
    """The stage that a run was killed in."""
    if not (out / "manifest.json").exists():
        return "before the manifest"
    if not (out / "base.safetensors").exists():
        return "base"
    return "evaluation" if (out / "logits" / "stages" / "test").exists() else "specialists"


def last_line(out: Path) -> str:
    """Of what a run said."""
    return out.with_suffix(".log").read_text(errors="replace").strip().rpartition("\n")[2]


def describe(account: Account, n_files: int) -> str:
    """The result, in words."""
    stages = ", ".join(f"{account.kills.count(stage)} {stage}" for stage in dict.fromkeys(account.kills))
    failures = "".join(f"\n\nA start failed: {line}" for line in account.failures)
    return (
        f"{len(account.kills)} kills ({stages}) in {account.starts} starts; {account.finished} runs ended all the "
        f"same, {account.equal} of them equal to the uninterrupted one, byte for byte, in all {n_files} files of "
        f"weights, logits, metrics and history. The uninterrupted run took {account.life:.0f} s.{failures}"
    )


def main(n_kills: int = 50, folder: Path | None = None) -> None:
    """Kill, resume, compare, record.

    Args:
        n_kills: how often.
        folder: that is kept; default: one that is not.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="coterie-kill-") as place:
            kill_and_resume(n_kills, Path(place))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        kill_and_resume(n_kills, folder.absolute())


def kill_and_resume(n_kills: int, folder: Path) -> None:
    """Until so many kills are done."""
    # Each run is forked from a server that has done the imports, so that the kills fall into the work.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["coterie.pipeline.fit", "coterie.pipeline.plan", "coterie.cli.terminal.progress"])
    whole, kept = folder / "whole", folder / "account.json"
    account = Account(**json.loads(kept.read_text())) if kept.exists() else Account()
    if not account.life:
        shutil.rmtree(whole, ignore_errors=True)
        began = time.monotonic()
        process = processes.Process(target=fit, args=(whole,))
        process.start()
        process.join()
        if process.exitcode != 0:
            sys.exit(f"the uninterrupted run failed: {last_line(whole)}")
        account.life = time.monotonic() - began
    expected = result(whole)
    while (len(account.kills) < n_kills or account.finished == 0) and len(account.failures) < MOST_FAILURES:
        kept.write_text(json.dumps(asdict(account)))
        out = folder / str(account.finished)
        process = processes.Process(target=fit, args=(out,))
        process.start()
        account.starts += 1
        moment = random.Random(account.starts).uniform(0, LONGEST_SHARE * account.life)
        process.join(moment if len(account.kills) < n_kills else None)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            account.kills.append(where(out))
            print(f"kill {len(account.kills)}: {account.kills[-1]}", flush=True)
            continue
        if process.exitcode != 0:
            account.failures.append(f"exit code {process.exitcode}, {last_line(out)}")
        elif result(out) == expected:
            account.equal += 1
        else:
            account.unequal += 1
        write_result(__file__, describe(account, len(expected)))
    kept.write_text(json.dumps(asdict(account)))
    write_result(__file__, describe(account, len(expected)))


if __name__ == "__main__":
    command(main)
