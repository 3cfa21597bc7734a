import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from coterie.cli import main, signals
from coterie.cli.signals import Terminated, interrupts


@pytest.fixture(autouse=True)
def heard():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_the_first_signal_is_raised_and_those_right_after_it_are_not(number, raised) -> None:
    before = signal.getsignal(number)
    later: list[int] = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            for _ in range(20):
                later.append(number)
                signal.raise_signal(number)

    with pytest.raises(raised), interrupts(until_exit=False):
        work()
    assert len(later) == 20
    assert signal.getsignal(number) is before


def test_a_later_one_ends_the_process_at_once(monkeypatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(signals, "SAME_WISH_SECONDS", 0.01)

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            time.sleep(0.02)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupts(until_exit=False):
        work()
    assert codes == [130]


def test_what_is_deaf_stays_deaf_and_what_others_hear_stays_theirs() -> None:
    def its_own(*_: object) -> None: ...

    for handler in (signal.SIG_IGN, its_own):
        signal.signal(signal.SIGINT, handler)
        with interrupts(until_exit=False):
            assert signal.getsignal(signal.SIGINT) is handler


def test_after_a_signal_the_handler_stays_where_the_process_ends() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(KeyboardInterrupt), interrupts(until_exit=True):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # while the interpreter ends
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    with interrupts(until_exit=True):
        pass
    assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]


def test_a_command_runs_in_another_thread(tmp_path, capsys) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["info", str(tmp_path / "nowhere")])))
    thread.start()
    thread.join()
    assert codes == [1]
    assert "is not a coterie run" in capsys.readouterr().err


# The system calls Python's own handler of a signal, which notes it for the interpreter's next look. What is noted just
# before the handler changes is looked at just after.
NOTED_BEFORE_IT_IS_DEAF = """
import ctypes, signal
from coterie.cli.signals import _Handler

handler = _Handler()
handler.first = 0.0
signal.signal(signal.SIGINT, handler)
system = ctypes.CDLL(None).signal
system.restype = ctypes.c_void_p
note = ctypes.CFUNCTYPE(None, ctypes.c_int)(system(signal.SIGINT, None))
handler.at_exit()
note(signal.SIGINT)
"""


def test_nothing_is_said_of_a_signal_that_comes_while_signals_are_made_deaf() -> None:
    ended = subprocess.run([sys.executable, "-c", NOTED_BEFORE_IT_IS_DEAF], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
