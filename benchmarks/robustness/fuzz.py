"""What does a run folder, or a file, do that was mutated to do harm?

Small runs are trained, of images, texts, tables and features. Each case takes a copy of one, or of its data, mutates
it by its kind and seed (values, tensors, names, links, pipes, ...; checksums mostly fixed up), and runs a few commands
on it in a process of its own. A fault is an exception that is no CoterieError, a hang, memory of 1 GiB above what good
runs take, anything read, written or deleted outside the folder, a process that is started, a connection, a stranger's
code, a control character that is printed, a probability that is none. It exits with 1 where there is any.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

from benchmarks.robustness.fuzzing.cases import KINDS, READING, WRITING, Case, good, lay_out
from benchmarks.robustness.fuzzing.commands import judged
from benchmarks.robustness.fuzzing.ready import n_threads, prepare, settle
from benchmarks.robustness.fuzzing.targets import TARGETS, make
from benchmarks.robustness.fuzzing.watched import MEMORY, SECONDS, Outcome
from benchmarks.shared import command, markdown_table, write_result

# Runs whose data is read without threads.
WARM = ("features", "compared", "whole", "tails")
FOR_TOKENS = ("peft", "transformers")


def warm_up(folder: Path, names: tuple[str, ...]) -> None:
    """Run what starts no threads once, for what the first call of a command takes; then nothing may run beside this."""
    place, threads = folder / "cases" / "warm", n_threads()
    for name in names:
        shutil.rmtree(place, ignore_errors=True)
        lay_out(folder / "targets" / name, place)
        with contextlib.chdir(place), contextlib.redirect_stdout(io.StringIO()):
            for wanted in (*READING, *WRITING):
                judged(wanted, name)
    shutil.rmtree(place)
    settle(threads)


def train(folder: Path, names: tuple[str, ...]) -> None:
    """The good runs that are not there yet, each in a process of its own: what it starts must not be forked."""
    for name in names:
        place = folder / "targets" / name
        if place.exists():
            continue
        begun = place.with_name(f".{name}")
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.chdir(begun)
                make(name, begun)
                code = 0
            except BaseException as error:  # a child says so, and never returns
                print(f"{name}: {error!r}", file=sys.stderr)
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"cannot make the target {name}")
        begun.rename(place)


def calibrate(folder: Path, names: tuple[str, ...], seconds: float, *, brief: bool) -> int:
    """The most memory that commands take on good runs, in bytes.

    Raises:
        SystemExit: they do on these what no case may do.
    """
    most = 0
    for name in names:
        place = folder / "cases" / name
        shutil.rmtree(place, ignore_errors=True)
        outcomes = good(name, folder / "targets", place, folder / "cache", 6 * seconds, brief=brief)
        if faults := [outcome for outcome in outcomes if outcome.kind == "fault"]:
            raise SystemExit("\n".join(f"good run {name}: {fault}" for fault in faults))
        most = max(most, *(outcome.memory for outcome in outcomes))
        shutil.rmtree(place)
    return most


def cases(seed: int, n: int, only: tuple[str, ...], names: tuple[str, ...]) -> Iterator[Case]:
    """So many cases, their kinds drawn by weight."""
    kinds = [kind for kind in only or KINDS if set(KINDS[kind].targets) & set(names)]
    rng, weights = Random(seed), [KINDS[kind].weight for kind in kinds]
    for number in range(n):
        yield Case(rng.choices(kinds, weights)[0], seed * 1_000_000 + number)


def describe(seed: int, done: dict[Case, list[Outcome]], most: int) -> str:
    """Counts by kind, and faults by what and where."""
    mutations = Counter(case.kind for case in done)
    counts = {
        kind: Counter(o.kind for case, found in done.items() if case.kind == kind for o in found) for kind in KINDS
    }
    counts["all"] = sum(counts.values(), Counter())
    mutations["all"] = len(done)
    rows = [
        (kind, mutations[kind], *(count[name] for name in ("answered", "refused", "fault")))
        for kind, count in counts.items()
    ]
    groups: dict[tuple[str, str], list[tuple[Case, Outcome]]] = {}
    for case, outcomes in done.items():
        for outcome in outcomes:
            if outcome.kind == "fault":
                groups.setdefault((outcome.fault, outcome.where.partition(":")[0]), []).append((case, outcome))
    found = sorted(groups.items(), key=lambda group: -len(group[1]))
    faults = [
        (
            fault,
            found[0][1].where or "-",
            len(found),
            found[0][1].command,
            f"`{found[0][0]}`",
            _cell(found[0][1].detail),
        )
        for (fault, _), found in found
    ]
    return (
        f"Seed {seed}: {len(done):,} mutations, {counts['all'].total():,} outcomes of commands, "
        f"{counts['all']['fault']:,} faults in {len(faults)} groups. "
        f"Good runs take {most / 2**30:.2f} GiB at most.\n\n"
        + markdown_table(("kind", "mutations", "answered", "refused", "faults"), rows)
        + (
            "\n\n" + markdown_table(("fault", "where", "times", "first command", "first case", "detail"), faults)
            if faults
            else ""
        )
    )


def _cell(text: str) -> str:
    return ascii(text)[1:-1].replace("|", "\\|").replace("`", "'")[:120]


def main(
    seed: int = 0,
    n: int = 5000,
    only: tuple[str, ...] = (),
    targets: tuple[str, ...] = tuple(TARGETS),
    replay: str | None = None,
    folder: Path | None = None,
    resume: bool = False,
    brief: bool = False,
    seconds: float = SECONDS,
) -> None:
    """Mutate, run, judge, record.

    Args:
        seed: of all that is drawn.
        n: mutations.
        only: kinds; default: all, and the result is recorded.
        targets: runs to mutate.
        replay: KIND:SEED, a case of a table of faults; its folder is kept.
        folder: that is kept, with its trained runs and what came of each case; default: one that is not.
        resume: go on with a run that was cut short in that folder; cases with a fault are tried again.
        brief: one command a case; the result is not recorded.
        seconds: that a command may take.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary).resolve()
        prepare(place, FOR_TOKENS if "tokens" in targets else ())
        train(place, targets)
        warm_up(place, tuple(name for name in targets if name in WARM))
        if replay is not None:
            again(place, replay, seconds)
            return
        most = calibrate(place, targets, seconds, brief=brief)
        log = place / f"seed {seed}.jsonl"
        if not resume:
            log.unlink(missing_ok=True)
        done = dict(attempts(place, list(cases(seed, n, only, targets)), most + MEMORY, seconds, log, brief=brief))
    text = describe(seed, done, most)
    if only or brief or set(targets) != set(TARGETS):
        print(text)
    else:
        write_result(__file__, text)
    raise SystemExit(any(outcome.kind == "fault" for found in done.values() for outcome in found))


def attempts(
    place: Path, some: list[Case], memory: int, seconds: float, log: Path, *, brief: bool
) -> Iterator[tuple[Case, list[Outcome]]]:
    """Each case, and what came of it; what the log has without a fault is not run again."""
    known = dict(_known(log))
    for number, case in enumerate(some, start=1):
        if case in known:
            yield case, known[case]
            continue
        at = place / "cases" / f"{number}"
        shutil.rmtree(at, ignore_errors=True)
        done, outcomes = case.run(place / "targets", at, place / "cache", memory, seconds, brief=brief)
        for outcome in outcomes:
            if outcome.kind == "fault":
                print(f"{number} {case} ({done!a:.150}): {replace(outcome, memory=0)!a}"[:700], file=sys.stderr)
        shutil.rmtree(at)
        with log.open("a", encoding="ascii") as stream:
            stream.write(json.dumps([case.kind, case.seed, *map(asdict, outcomes)]) + "\n")
        yield case, outcomes


def _known(log: Path) -> Iterator[tuple[Case, list[Outcome]]]:
    for line in log.read_text("ascii").splitlines() if log.exists() else ():
        kind, seed, *values = json.loads(line)
        outcomes = [Outcome(**each) for each in values]
        if all(outcome.kind != "fault" for outcome in outcomes):
            yield Case(kind, seed), outcomes


def again(place: Path, name: str, seconds: float) -> None:
    """One case, with what its commands said."""
    kind, _, seed = name.rpartition(":")
    at = place / "cases" / "replay"
    shutil.rmtree(at, ignore_errors=True)
    done, outcomes = Case(kind, int(seed)).run(place / "targets", at, place / "cache", 2**63, seconds)
    print(ascii(done), *map(ascii, outcomes), sep="\n")
    print((at / "said").read_text(errors="replace"))
    print(f"kept: {at}")


if __name__ == "__main__":
    command(main)
