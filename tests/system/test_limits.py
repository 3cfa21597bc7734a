import subprocess
import sys
import time

import pytest

from coterie.errors import LimitError
from coterie.progress import Progress
from coterie.system import limits
from coterie.system.limits import NO_LIMITS, LimitedProgress, Limits


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        raise AssertionError("a clock that jumps was asked")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    return clock


def test_time_counts_from_the_beginning(clock: Clock) -> None:
    limit = Limits(max_time="10m")
    clock.now += 599.9
    limit.check()
    clock.now += 0.2
    with pytest.raises(LimitError, match="--max-time 10m is over"):
        limit.check()


def test_a_wall_clock_that_jumps_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limits(max_time="1h")
    for jump in (1e9, -1e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        limit.check()


def test_memory_is_looked_at_once_a_second(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(limits, "resident_bytes", lambda: looks.append(1) or 2**30)
    limit = Limits(max_memory="2GiB")
    for _ in range(50):
        clock.now += 0.1
        limit.check()
    assert 4 <= len(looks) <= 5
    monkeypatch.setattr(limits, "resident_bytes", lambda: 3 * 2**30)
    clock.now += 1
    with pytest.raises(LimitError, match=r"--max-memory 2GiB is reached: .* hold 3.00 GiB. Allow more, or hold less"):
        limit.check()


def test_no_limits_are_never_reached(clock: Clock) -> None:
    clock.now += 1e12
    Limits().check()
    NO_LIMITS.check()


def test_progress_passes_on_what_it_is_told_until_a_limit_is_reached(clock: Clock) -> None:
    class Keeping(Progress):
        def __init__(self) -> None:
            self.told: list[tuple] = []

        def stage(self, *values) -> None:
            self.told.append(values)

        def advance(self, *values) -> None:
            self.told.append(values)

        def note(self, *values) -> None:
            self.told.append(values)

    kept = Keeping()
    progress = LimitedProgress(kept, Limits(max_time="10s")).lane()
    progress.stage("base", 3)
    progress.advance(1, 32, 0.5, 0.25)
    progress.note("a line")
    assert kept.told == [("base", 3), (1, 32, 0.5, 0.25), ("a line",)]
    clock.now += 11
    progress.stage("next", 1)
    with pytest.raises(LimitError, match="--max-time 10s is over"):
        progress.advance(1)
    assert kept.told[-1] == (1, 0, None, None)  # the step that was done counts


MEASURING = """
import mmap, subprocess, sys
import psutil
from coterie.system.limits import resident_bytes
alone = resident_bytes()
print(alone / psutil.Process().memory_info().rss)
holding = "import sys; held = b'x' * 2**27; print('held', flush=True); sys.stdin.read()"
with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    print(resident_bytes() - alone)
    child.stdin.close()
with mmap.mmap(-1, 2**27) as block:
    block.write(bytes(len(block)))
    print(resident_bytes() - alone)
"""


def test_memory_is_that_of_the_process_and_its_children() -> None:
    # In a process of its own: this one's heap, and processes that other tests have left, come and go as they like.
    done = subprocess.run([sys.executable, "-c", MEASURING], capture_output=True, text=True, check=True)
    alone, child, block = map(float, done.stdout.split())
    assert alone >= 0.9
    assert child > 2**26
    assert block > 0.9 * 2**27
