import subprocess
import sys
import time

import pytest

from coterie.config import FitSettings
from coterie.errors import LimitError, SettingsError
from coterie.system import limits
from coterie.system.limits import Limits
from coterie.system.units import bytes_of, seconds_of


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400), ("3d", 259200)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert FitSettings(max_time=text).max_time == text


@pytest.mark.parametrize(
    ("text", "size"), [("500MiB", 500 * 2**20), ("4GiB", 2**32), ("0.5GiB", 2**29), ("1TiB", 2**40)]
)
def test_sizes(text: str, size: float) -> None:
    assert bytes_of(text) == size
    assert FitSettings(max_memory=text).max_memory == text


@pytest.mark.parametrize("text", ["", "90", "0s", "-1s", "1 h", "h", "1w", "nans", "1e3s", "10ms"])
def test_a_time_that_is_none_is_named_with_those_that_are(text: str) -> None:
    with pytest.raises(SettingsError, match=r"max_time = .*: must be a number above 0 and a unit, as in 90s, 10m"):
        FitSettings(max_time=text)


@pytest.mark.parametrize("text", ["", "4", "4GB", "0GiB", "-4GiB", "GiB", "4 GiB"])
def test_a_size_that_is_none_is_named_with_those_that_are(text: str) -> None:
    with pytest.raises(SettingsError, match=r"max_memory = .*: must be a number above 0 and a unit, as in 500MiB"):
        FitSettings(max_memory=text)


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
    limit = Limits()
    clock.now += 1e12
    limit.check()


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
