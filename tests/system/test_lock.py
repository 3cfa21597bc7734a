import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coterie.errors import ArtifactError
from coterie.system import lock
from coterie.system.lock import HOLDER, LOCK, hold, refuse_if_held

HOLDING = """
import sys
from pathlib import Path
from coterie.system.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()  # until it is killed
"""


@pytest.fixture
def holder(tmp_path: Path):
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_names_the_first(tmp_path: Path, holder: subprocess.Popen) -> None:
    said = (
        rf"is being written by process {holder.pid} on .*, started \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC: .*import sys"
    )
    with pytest.raises(ArtifactError, match=f"(?s){said}.*or choose another --out"), hold(tmp_path):
        pass
    with pytest.raises(ArtifactError, match=f"(?s){said}"):
        refuse_if_held(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_dead_process_is_gone_with_it(number: int, tmp_path: Path, holder: subprocess.Popen) -> None:
    os.kill(holder.pid, number)
    holder.wait()
    assert (tmp_path / HOLDER).exists()  # what it said of itself is still there, and counts for nothing
    with hold(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    assert not (tmp_path / HOLDER).exists()


def test_a_process_with_the_number_of_the_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    # After a reboot, or once numbers have come round: the file names a process that lives and holds nothing.
    says = {"host": lock._this_process()["host"], "pid": os.getppid(), "started": "once", "command": "coterie"}
    (tmp_path / HOLDER).write_text(json.dumps(says))
    (tmp_path / LOCK).touch()
    with hold(tmp_path):
        pass


def test_one_process_cannot_write_twice_either(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(ArtifactError, match=f"written by process {os.getpid()} on"), hold(tmp_path):
        pass
    with hold(tmp_path):
        pass


def test_a_holder_on_another_machine_comes_with_a_way_out(tmp_path: Path) -> None:
    with hold(tmp_path):
        says = json.loads((tmp_path / HOLDER).read_text())
        (tmp_path / HOLDER).write_text(json.dumps({**says, "host": "elsewhere"}))
        with pytest.raises(ArtifactError, match=r"on elsewhere.*gone for good, delete .*\.lock\)"), hold(tmp_path):
            pass


@pytest.mark.parametrize("content", ["", "{}", "[]", "{"])
def test_a_holder_that_has_not_yet_said_who_it_is(content: str, tmp_path: Path) -> None:
    with hold(tmp_path):
        (tmp_path / HOLDER).write_text(content)
        with pytest.raises(ArtifactError, match="is being written by another process"), hold(tmp_path):
            pass


def test_asking_leaves_nothing(tmp_path: Path) -> None:
    refuse_if_held(tmp_path / "nowhere")
    refuse_if_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"cannot write to .*Not a directory\. Choose another --out"
    with pytest.raises(ArtifactError, match=said), hold(tmp_path / "file" / "run"):
        pass
    with pytest.raises(ArtifactError, match=said):
        refuse_if_held(tmp_path / "file" / "run")


@pytest.mark.parametrize("make", [lambda file: file.symlink_to("victim"), os.mkfifo, Path.mkdir])
def test_a_lock_that_is_no_regular_file_is_refused(make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "run" / LOCK)
    said = r"cannot write to .*run: \.lock is not a regular file"
    with pytest.raises(ArtifactError, match=said), hold(tmp_path / "run"):
        pass
    with pytest.raises(ArtifactError, match=said):
        refuse_if_held(tmp_path / "run")
    assert not (tmp_path / "run" / "victim").exists()


def test_a_holder_behind_a_link_or_a_pipe_is_neither_read_nor_overwritten(tmp_path: Path) -> None:
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    run.mkdir()
    (run / HOLDER).symlink_to(victim)
    with hold(run):
        (run / HOLDER).unlink()
        os.mkfifo(run / HOLDER)
        with pytest.raises(ArtifactError, match="is being written by another process"), hold(run):
            pass
    assert victim.read_text() == "precious"


def test_a_name_that_is_too_long_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="File name too long"), hold(tmp_path / ("x" * 300)):
        pass
    with pytest.raises(ArtifactError, match="File name too long"):
        refuse_if_held(tmp_path / ("x" * 300))
