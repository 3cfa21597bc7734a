import subprocess
import sys

import pytest

from coterie.system import load as module
from coterie.system.load import OthersLoad


def measured(monkeypatch: pytest.MonkeyPatch, seconds: float, idle: float, own: float, cores: int = 2) -> float:
    """Of others, where so many seconds pass, cores are idle for so long in all, and this process computes so long."""
    now = {"seconds": 100.0, "idle": 40.0, "own": 7.0}
    monkeypatch.setattr(module, "usable_cores", lambda: list(range(cores)))
    monkeypatch.setattr(module, "_idle_seconds", lambda: now["idle"])
    monkeypatch.setattr(module, "_own_seconds", lambda: now["own"])
    monkeypatch.setattr(module.time, "monotonic", lambda: now["seconds"])
    load = OthersLoad()
    now.update(seconds=100.0 + seconds, idle=40.0 + idle, own=7.0 + own)
    return load.cores()


def test_what_is_neither_idle_nor_ones_own_is_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, seconds=10, idle=5, own=7) == pytest.approx(0.8)
    assert measured(monkeypatch, seconds=10, idle=0, own=0) == 2.0
    assert measured(monkeypatch, seconds=10, idle=12, own=9) == 0.0  # both are told in steps of a hundredth of a second
    assert 0.0 <= measured(monkeypatch, seconds=0, idle=0, own=0) <= 2.0


def test_a_childs_work_is_ones_own() -> None:
    before = module._own_seconds()
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        during = module._own_seconds()
        child.communicate(b"\n")
    assert during - before >= 0.25
    assert module._own_seconds() - before >= 0.25  # it has ended


def test_the_cores_are_those_that_this_process_may_use() -> None:
    assert 0.0 <= OthersLoad().cores() <= len(module.usable_cores())
    assert module._idle_seconds() > 0
