"""Commands whose output is closed, full or of another encoding, and users who press Ctrl-C twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import FIXTURES, TINY, hears_ctrl_c

pytestmark = pytest.mark.slow

RUN = str(FIXTURES / "runs" / "whole-on-features")


def start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "coterie", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=hears_ctrl_c, **options)


@pytest.fixture
def fitting(tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return ["fit", "--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), "--base.epochs", "900"]


def test_a_disk_that_is_full_is_named(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("info", RUN, stdout=full, env={**os.environ, "PYTHONIOENCODING": "ascii"})
        _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert error.startswith(b"error: cannot write to standard output: No space left on device")
    assert error.count(b"\n") == 1


def test_a_run_whose_output_nobody_reads_says_so(fitting: list[str]) -> None:
    process = start(*fitting, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    error = process.communicate(timeout=500)[1].decode()
    assert process.returncode == 1
    assert error.startswith("error: cannot write to standard output: Broken pipe; what a run folder holds is kept")
    assert error.count("\n") == 1


def test_ctrl_c_pressed_again_until_the_end_is_one_ctrl_c(fitting: list[str], tmp_path: Path) -> None:
    process = start(*fitting, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 500
    while not (tmp_path / "run" / "manifest.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < 0.7:
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert error.decode() == "\ninterrupted: what a run folder holds is kept, and the same command goes on with it\n"
