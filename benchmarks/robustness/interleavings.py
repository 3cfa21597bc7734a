"""Do commands that run side by side on one run damage it, or call it damaged?

In each interleaving, four processes each begin one command on the same finished run, a moment apart: tune, report,
compare, refit, evaluate or predict, drawn with a seed. A command that writes may be told that another writes; whatever
else ends with an error is a failure. After each interleaving all checksums must be right, figures and report those of
the rule in the manifest, and the run loaded anew must answer as its rule says, to the last bit. Data: 720 vectors of 8
features in 12 classes.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import random
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.shared import command, markdown_table, plain, write_result

AT_ONCE = 4
# The commands take 0.1 to 2 s: they begin within this many seconds, and overlap in every way.
SPREAD = 0.4
WRITERS = ("tune", "report", "compare")
READERS = ("evaluate", "predict", "refit")
HELD = "is being written by"
MODULES = ("coterie.cli", "coterie.pipeline.revise", "coterie.studies.comparison.study", "coterie.cli.terminal.tune")


@dataclass
class Account:
    """What has happened: commands that ended, by name and how; what went wrong."""

    interleavings: int = 0
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def main(interleavings: int = 200, seed: int = 0) -> None:
    """Interleave, look, record.

    Args:
        interleavings: how many.
        seed: of what is drawn.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="coterie-interleavings-") as place:
        account = interleave(Path(place), interleavings, seed)
    rows = [
        (name, *(account.ended[name, how] for how in ("done", "told that another writes", "failed")))
        for name in (*WRITERS, *READERS)
    ]
    failures = "".join(f"\n\nFailure: {line}" for line in account.failures) or "\n\nNo failure."
    write_result(
        __file__,
        f"{account.interleavings} interleavings of {AT_ONCE} commands each, seed {seed}, in "
        f"{time.monotonic() - began:.0f} s.\n\n"
        + markdown_table(("command", "done", "told that another writes", "failed"), rows)
        + failures,
    )


def interleave(folder: Path, interleavings: int, seed: int) -> Account:
    """Train a run in a folder, run commands on it side by side, and look at it after each round."""
    chance, account = random.Random(seed), Account()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(MODULES))
    with ProcessPoolExecutor(AT_ONCE, context) as pool:
        pool.submit(make_run, folder).result()
        for number in range(interleavings):
            commands = [draw(folder, chance, f"{number}-{place}") for place in range(AT_ONCE)]
            waits = [chance.uniform(0, SPREAD) for _ in commands]
            for typed, (code, said) in zip(commands, pool.map(typed_after, commands, waits), strict=True):
                held = typed[0] in WRITERS and HELD in said
                how = "done" if code == 0 else "told that another writes" if held else "failed"
                account.ended[typed[0], how] += 1
                if how == "failed":
                    account.failures.append(f"interleaving {number}: {' '.join(typed)}: exit code {code}, {said}")
            refitted = [Path(typed[-1]) for typed in commands if typed[0] == "refit"]
            faults = [pool.submit(look, folder), *(pool.submit(whole, new) for new in refitted)]
            account.failures += [f"interleaving {number}: {line}" for found in faults for line in found.result()]
            account.interleavings += 1
    return account


def make_run(folder: Path) -> None:
    """A finished run and a copy of it; its data, samples of the classes of cluster 0, and vectors to predict."""
    import coterie

    rng, label_N = np.random.default_rng(0), np.arange(720) % 12
    centre_CF = rng.normal(size=(12, 8))
    features_NF = (centre_CF[label_N] + rng.normal(scale=0.8, size=(720, 8))).astype(np.float32)
    np.savez(folder / "data.npz", features=features_NF, labels=label_N)
    np.save(folder / "new.npy", centre_CF.astype(np.float32))
    training = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05}
    settings = {
        "data": {"source": f"features:{folder / 'data.npz'}"},
        "backbone": "mlp-8",
        "base": training,
        "specialist": training,
        "partition": {"clusters": 4},
        "hardware": {"accelerator": "cpu", "threads": 1},
        "track": {"tensorboard": False},
    }
    ensemble = coterie.fit(plain(settings), folder / "run")
    shutil.copytree(folder / "run", folder / "first")
    row_N = np.flatnonzero(np.isin(label_N, ensemble.partition.classes(0)))[:60]
    np.savez(folder / "cluster.npz", features=features_NF[row_N], labels=label_N[row_N])


def draw(folder: Path, chance: random.Random, name: str) -> list[str]:
    """A command on the run, as it is typed; a refit makes a run of this name."""
    run, source = str(folder / "run"), f"features:{folder / 'data.npz'}"
    kind = chance.choice((*WRITERS, *READERS))
    if kind == "tune":
        return [kind, run, "--combiner", chance.choice(["hard", "compose", "blend", "average", "product"])]
    if kind == "report":
        return [kind, run]
    if kind == "compare":
        return [kind, run, "--no-train"]
    if kind == "evaluate":
        return [kind, run, "--json", *chance.choice([[], ["--source", source, "--split", "all"]])]
    if kind == "predict":
        return [kind, run, str(folder / "new.npy"), "--format", "jsonl"]
    return [kind, run, "--cluster", "0", "--source", f"features:{folder / 'cluster.npz'}", "--out", str(folder / name)]


def typed_after(arguments: list[str], seconds: float) -> tuple[int, str]:
    """The exit code of a command that begins after so many seconds, and the last line of what it said of errors."""
    from coterie.cli import main as coterie

    time.sleep(seconds)
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = coterie(arguments)
        except Exception as error:
            return -1, repr(error)
    return code, said.getvalue().strip().rpartition("\n")[2]


def look(folder: Path) -> list[str]:
    """What is wrong with the run between two interleavings."""
    import coterie
    from coterie.routing.evaluation import evaluate
    from coterie.run.folder import Run
    from coterie.run.reporting import read_outputs, read_reports
    from coterie.run.values import partition_of, rule_of, train_counts_of

    faults = whole(folder / "run")
    if faults:
        return faults
    run, first, now = Run.open(folder / "run"), coterie.load(folder / "first"), coterie.load(folder / "run")
    for split, report in read_reports(run).items():
        rule, counts_C = rule_of(run.manifest), train_counts_of(run.manifest)
        if report != evaluate(read_outputs(run, split), partition_of(run.manifest), rule, counts_C):
            faults.append(f"the figures of {split} are those of another rule")
    first.rule = now.rule
    new_NF = np.load(folder / "new.npy")
    if not np.array_equal(first.predict_proba(new_NF), now.predict_proba(new_NF)):
        faults.append("the run answers otherwise than at first")
    return faults


def whole(folder: Path) -> list[str]:
    """What is wrong with a finished run: files whose checksum is not the one in its manifest, the report among them."""
    from coterie.errors import CoterieError
    from coterie.run.folder import Run

    try:
        run = Run.open_complete(folder)
        return [f"{folder}: {name} is not whole" for name in run.manifest.files if not run.has(name)]
    except CoterieError as error:
        return [str(error)]


if __name__ == "__main__":
    command(main)
