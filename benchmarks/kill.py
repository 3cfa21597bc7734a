"""Does a run that is killed at random moments end as if it had not been?

Runs `coterie fit --config examples/tiny.yaml`, kills it (SIGKILL) at random moments and starts it again, until it has
been killed so many times. Whenever a run ends all the same, it is compared with the uninterrupted one, byte for byte,
and another begins.

    python benchmarks/kill.py [KILLS]
"""

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from record import write

TINY = Path(__file__).parents[1] / "examples" / "tiny.yaml"
KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 50


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


def main() -> None:
    """Kill, resume, compare, record."""
    # Each run is forked from a server that has done the imports, so that the kills fall into the work.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["coterie.pipeline", "coterie.plan", "coterie.terminal"])
    folder = Path(tempfile.mkdtemp(prefix="coterie-kill-"))
    began = time.monotonic()
    process = processes.Process(target=fit, args=(folder / "whole",))
    process.start()
    process.join()
    assert process.exitcode == 0, (folder / "whole.log").read_text()
    life = time.monotonic() - began
    whole = result(folder / "whole")
    chance, kills, starts, finished, equal = random.Random(0), [], 0, 0, 0
    while len(kills) < KILLS or finished == 0:
        out = folder / str(finished)
        process = processes.Process(target=fit, args=(out,))
        process.start()
        starts += 1
        process.join(chance.uniform(0, 0.6 * life) if len(kills) < KILLS else None)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills.append(where(out))
            print(f"kill {len(kills)}: {kills[-1]}", flush=True)
            continue
        assert process.exitcode == 0, out.with_suffix(".log").read_text()
        equal += result(out) == whole
        finished += 1
        print(f"run {finished} finished, {equal} equal", flush=True)
    stages = ", ".join(f"{kills.count(stage)} {stage}" for stage in dict.fromkeys(kills))
    write(
        __file__,
        f"{len(kills)} kills ({stages}) in {starts} starts; {finished} runs ended all the same, {equal} of them equal "
        f"to the uninterrupted one, byte for byte, in all {len(whole)} files of weights, logits, metrics and history. "
        f"The uninterrupted run took {life:.0f} s, beside other work on the same machine.",
    )


if __name__ == "__main__":
    main()
