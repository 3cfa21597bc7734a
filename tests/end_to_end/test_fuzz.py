"""Mutated runs and data do no harm: a hundred cases of the fuzzer; and the fuzzer sees what it is there to see."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchmarks.robustness.fuzzing.hostile import SENTINEL
from benchmarks.robustness.fuzzing.watched import Guard, watch
from helpers import ROOT

pytestmark = pytest.mark.slow

SEED = 1
# Of the kinds of runs those that are soon trained; the benchmark has the others.
TARGETS = ("features", "tails", "table", "unfinished")


def test_a_hundred_mutations_do_no_harm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.robustness.fuzz", "--n", "100", "--seed", str(SEED)]
    # Other tests may take the machine's time: what hangs does so for ever.
    command += ["--seconds", "60", "--folder", str(tmp_path), "--brief", "--targets", *TARGETS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 mutations" in done.stdout


def _reads() -> None:
    Path(SENTINEL, "victim.txt").read_bytes()


def _reads_through_a_link() -> None:
    Path("run", "weights").symlink_to(Path(SENTINEL, "victim.txt").absolute())
    Path("run", "weights").read_bytes()


def _writes() -> None:
    Path("beside.txt").write_text("x")


def _deletes() -> None:
    Path(SENTINEL, "victim.txt").unlink()


def _prints_escapes() -> None:
    sys.stdout.write("\x1b[2J")


def _fills_memory() -> None:
    b"x" * 10**9


def _raises() -> None:
    raise KeyError("a")


def _panics() -> None:
    raise BaseException("as a library written in Rust does")  # noqa: TRY002 - nothing less would show it


FAULTS = {
    _reads: "reads outside",
    _reads_through_a_link: "reads outside",
    _writes: "written or deleted outside",
    _deletes: "written or deleted outside",
    lambda: list(Path("/dev").iterdir()): "opens a device",
    lambda: subprocess.run(["true"], check=True): "starts a process",
    lambda: __import__("stranger_of_the_fuzzer"): "runs a stranger's code",
    _prints_escapes: "prints control characters",
    _fills_memory: "takes over 1 GiB more than a good run",
    _raises: "KeyError",
    _panics: "BaseException",
    os.abort: "the process ended by SIGABRT",
    lambda: time.sleep(60): "hangs over 3 s",
}


@pytest.mark.parametrize(
    ("act", "fault"), FAULTS.items(), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_the_fuzzer_sees(act: Callable[[], object], fault: str, tmp_path: Path) -> None:
    place = tmp_path / "case"
    for folder in ("run", SENTINEL):
        (place / folder).mkdir(parents=True)
    (place / SENTINEL / "victim.txt").write_text("victim")

    def judge(_: str) -> str:
        act()
        return "answered"

    # A fork takes over what its parent has of its own, not the pages of files, of which the tests before it map GBs.
    mine = psutil.Process().memory_info()
    memory = mine.rss - mine.shared + 5 * 10**8
    outcomes = watch(Guard(place, tmp_path / "cache", memory, 3), [("act", False)], judge)
    assert fault in {outcome.fault for outcome in outcomes}


def test_the_fuzzer_sees_nothing_in_what_is_allowed(tmp_path: Path) -> None:
    place = tmp_path / "case"
    (place / "run").mkdir(parents=True)

    def judge(_: str) -> str:
        Path("run", "report.html").write_text("page")
        sys.stdout.write("a table")
        return "answered"

    [outcome] = watch(Guard(place, tmp_path / "cache", 2**40, 30), [("act", False)], judge)
    assert (outcome.kind, outcome.fault) == ("answered", "")
