"""What does `coterie fit --dry-run` make of files as people write them?

Files are drawn from scratch, by kind and seed: csv files of any separator, encoding and quoting, JSON lines, parquet
and Arrow files, arrays, folders of images and tables that name some, with what people leave in them. Each is planned
on in a process of its own. A fault is an exception that is no CoterieError, a message of more than a screen, a hang,
memory of 1 GiB above what a good file takes, anything written or deleted outside the run; and, where nothing is odd in
how a file is written, a class or a sample more or less than it holds. It exits with 1 where there is any.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.robustness.fuzzing.ready import n_threads, prepare, settle
from benchmarks.robustness.fuzzing.targets import DATA
from benchmarks.robustness.fuzzing.watched import MEMORY, SECONDS, Guard, Outcome, watch
from benchmarks.robustness.people.pictures import arrays_file, image_folder, named_images
from benchmarks.robustness.people.tables import Written, columns_file, csv_file, csv_folder, json_lines
from benchmarks.shared import command, markdown_table, write_result

# What is drawn, and how often.
KINDS: dict[str, tuple[Callable[[Random, Path], Written], float]] = {
    "csv file": (csv_file, 4),
    "csv files by split": (csv_folder, 1),
    "JSON lines": (json_lines, 2),
    "parquet, Arrow": (columns_file, 2),
    "npz, npy": (arrays_file, 2),
    "image folder": (image_folder, 2),
    "images of a table": (named_images, 1),
}
PLAN, READ = "plan", "read"
# A terminal's lines; and the columns by which longer ones are broken.
SCREEN, COLUMNS = 40, 100


class WrongAnswerError(Exception):
    """Something was read that is not there, or not read that is."""


@dataclass(frozen=True)
class Found:
    """A case and what came of it."""

    kind: str
    seed: int
    what: str
    outcomes: list[Outcome]


def main(
    minutes: float = 60,
    seed: int = 0,
    only: tuple[str, ...] = (),
    replay: str | None = None,
    seconds: float = SECONDS,
) -> None:
    """Draw, plan, judge, record.

    Args:
        minutes: to go on.
        seed: of all that is drawn.
        only: kinds; default: all, and the result is recorded.
        replay: KIND:NUMBER, a case of a table of faults; its folder is kept.
        seconds: of the processor's time that a file may take.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary).resolve()
        prepare(place)
        memory = MEMORY + warm_up(place)
        if replay is not None:
            wanted, _, place_in = replay.rpartition(":")
            again(place, wanted, int(place_in), seconds)
            return
        started, found = time.monotonic(), []
        for kind, number in cases(seed, only):
            if time.monotonic() - started > 60 * minutes:
                break
            found.append(attempt(place, kind, number, memory, seconds))
    text = describe(found, seed, (time.monotonic() - started) / 60, memory)
    if only:
        print(text)
    else:
        write_result(__file__, text)
    raise SystemExit(any(outcome.kind == "fault" for case in found for outcome in case.outcomes))


def cases(seed: int, only: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Kinds, drawn by weight, each with a seed of its own; without an end."""
    kinds = only or tuple(KINDS)
    rng, weights = Random(seed), [KINDS[kind][1] for kind in kinds]
    for number in count(1_000_000 * seed):
        yield rng.choices(kinds, weights)[0], number


def warm_up(folder: Path) -> int:
    """Plan on a good file, which takes what the first plan does; the most memory so far, in bytes."""
    import resource

    from coterie.backbones.packages import PACKAGES

    PACKAGES.clear()  # pretrained networks take seconds to load, whatever the file
    threads, place = n_threads(), folder / "cases" / "warm"
    (place / DATA).mkdir(parents=True)
    label_N = np.arange(40) % 4
    np.savez(place / DATA / "good.npz", features=np.eye(4)[label_N], labels=label_N)
    with contextlib.chdir(place), contextlib.redirect_stdout(io.StringIO()):
        if _plan(Written(f"features:{DATA}/good.npz", "")) != "answered":
            raise SystemExit("a good file is refused")
    settle(threads)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(folder: Path, kind: str, seed: int, memory: int, seconds: float) -> Found:
    """One case; its faults are told at once."""
    place = folder / "cases" / "now"
    written = draw(place, kind, seed)
    outcomes = asked(Guard(place, folder / "cache", memory, seconds), written)
    for outcome in outcomes:
        if outcome.kind == "fault":
            print(f"{kind}:{seed} ({written.what!a:.300}): {outcome!a:.700}", file=sys.stderr, flush=True)
    _remove(place)
    return Found(kind, seed, written.what, outcomes)


def asked(guard: Guard, written: Written) -> list[Outcome]:
    """What comes of a file; where its classes are known, it is read once more to count them."""
    names = [PLAN] if written.labels is None else [PLAN, READ]
    return watch(guard, [(name, True) for name in names], lambda name: judged(name, written))


def draw(place: Path, kind: str, seed: int) -> Written:
    """Write the files of a case below a folder that is empty."""
    _remove(place)
    (place / DATA).mkdir(parents=True)
    (place / "tmp").mkdir()
    return KINDS[kind][0](Random(f"{kind}:{seed}"), place / DATA)


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)


def judged(name: str, written: Written) -> str:
    """Plan on a file, or read it and count its classes: "answered" or "refused".

    Raises:
        WrongAnswerError: as said of faults in this script's docstring.
        BaseException: whatever coterie did not name.
    """
    return _plan(written) if name == PLAN else _read(written)


def _plan(written: Written) -> str:
    from coterie.cli import main

    options = ("--dry-run", "--out", "new", "--partition.clusters", "1", "--hardware.threads", "1")
    before = _said()
    try:
        code = main(["fit", "--data.source", written.source, *_words(written), *options])
    except SystemExit as ended:  # the option has another type, which the command line says
        code = 1 if ended.code == 2 else -1
    if code not in (0, 1):
        raise WrongAnswerError(f"exit code {code}")
    lines = _said()[len(before) :].splitlines()
    n_lines = sum(1 + len(line) // COLUMNS for line in lines)
    if code and n_lines > SCREEN:
        raise WrongAnswerError(f"a message of {n_lines} lines")
    return "refused" if code else "answered"


def _read(written: Written) -> str:
    from coterie.config import DataSettings
    from coterie.data import load
    from coterie.errors import CoterieError

    try:
        splits = load(DataSettings.model_validate({"source": written.source, **written.options}), 0)
    except (CoterieError, ValueError):  # pydantic's, of a setting
        return "refused"
    parts = (splits.train, splits.validation, splits.test)
    there = Counter(name for part in parts for name in splits.labels.of(part.labels_N.tolist()))
    if written.labels is not None and there != Counter(written.labels):
        raise WrongAnswerError(f"classes {dict(there)}, not {dict(Counter(written.labels))}: {splits.about}"[:600])
    return "answered"


def _words(written: Written) -> list[str]:
    """Settings as the command line takes them."""
    words = []
    for name, value in written.options.items():
        option = f"data.{name.replace('_', '-')}"
        if value is True:
            words.append(f"--{option}")
        else:
            # An equals sign, for what begins with a dash.
            words += [f"--{option}", *map(str, value)] if isinstance(value, tuple) else [f"--{option}={value}"]
    return words


def _said() -> str:
    """What this process has printed so far, where that goes to a file."""
    file = Path("said")
    return file.read_text("utf-8", "replace") if file.exists() else ""


def again(folder: Path, kind: str, seed: int, seconds: float) -> None:
    """One case, with what was said; its folder is kept."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    written = draw(place / "case", kind, seed)
    guard = Guard(place / "case", folder / "cache", 2**63, seconds)
    outcomes = asked(guard, written)
    print(written.what, written.source, _words(written), *map(repr, outcomes), sep="\n")
    print((place / "case" / "said").read_text(errors="replace"))
    print(f"kept: {place}")


def describe(found: list[Found], seed: int, minutes: float, memory: int) -> str:
    """Counts by kind, and faults by what and where."""
    rows = []
    for kind in (*KINDS, "all"):
        some = [case for case in found if kind in (case.kind, "all")]
        plans = Counter(case.outcomes[0].kind for case in some if case.outcomes)
        faults = sum(outcome.kind == "fault" for case in some for outcome in case.outcomes)
        rows.append((kind, f"{len(some):,}", f"{plans['answered']:,}", f"{plans['refused']:,}", faults))
    groups: dict[tuple[str, str], list[tuple[Found, Outcome]]] = {}
    for case in found:
        for outcome in case.outcomes:
            if outcome.kind == "fault":
                groups.setdefault((outcome.fault, outcome.where), []).append((case, outcome))
    listed = [
        (fault, where or "-", len(some), f"`{some[0][0].kind}:{some[0][0].seed}`", _cell(some[0][1].detail))
        for (fault, where), some in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]
    most = max((outcome.memory for case in found for outcome in case.outcomes), default=0)
    return (
        f"Seed {seed}, {minutes:.0f} minutes: {len(found):,} files or folders, {rows[-1][-1]} faults in "
        f"{len(groups)} groups. A good file takes {(memory - MEMORY) / 2**30:.2f} GiB, none more than "
        f"{most / 2**30:.2f} GiB.\n\n"
        + markdown_table(("kind", "drawn", "planned", "refused", "faults"), rows)
        + ("\n\n" + markdown_table(("fault", "where", "times", "first case", "detail"), listed) if listed else "")
    )


def _cell(text: str) -> str:
    return ascii(text)[1:-1].replace("|", "\\|").replace("`", "'")[:120]


if __name__ == "__main__":
    command(main)
