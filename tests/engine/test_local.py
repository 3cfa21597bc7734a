"""The engines of one machine. Workers are processes that import torch: few tests start any."""

import subprocess
import sys
import textwrap
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import coterie
from coterie.config import EngineSettings, FitSettings
from coterie.data.splits import Splits
from coterie.engine import Resources, Task, TaskContext
from coterie.engine.local import InProcess, LocalWorkers, auto_workers
from coterie.errors import EngineError, LimitError, TrainingError
from coterie.progress import SILENT
from engine_tasks import InSpecialists, Recorder, Square
from helpers import ROOT, changed, weights

pytestmark = pytest.mark.slow


def outcomes(engine, tasks, contexts):
    with closing(
        engine.run(tasks, 1, Resources(), lambda number: TaskContext(contexts[number], contexts[number]))
    ) as found:
        return {outcome.number: outcome for outcome in found}


@pytest.mark.parametrize("engine", [InProcess(), LocalWorkers(2)], ids=["in process", "workers"])
def test_each_task_ends_with_its_own_result_or_error_and_tells_its_own_desk(engine) -> None:
    tasks = [Square(1), Square(2, "error"), Square(3), Square(4)]
    contexts = [Recorder() for _ in tasks]
    contexts[3].state = {"found": torch.tensor(99)}
    found = outcomes(engine, tasks, contexts)
    assert sorted(found) == [0, 1, 2, 3]
    assert [found[number].unwrap() for number in (0, 2, 3)] == [2, 10, 99]
    with pytest.raises(TrainingError, match="the loss became nan"):
        found[1].unwrap()
    assert contexts[2].calls == [("square", 2), (2, 10)]
    assert int(contexts[2].state["found"]) == 3


def test_a_dead_worker_is_named_its_state_is_kept_and_the_other_tasks_go_on(capfd) -> None:
    tasks = [Square(1, "death", title="specialist 1"), Square(2, "fault", title="specialist 2")]
    tasks += [Square(3, "talk"), Square(4)]
    contexts = [Recorder() for _ in tasks]
    found = outcomes(LocalWorkers(1), tasks, contexts)
    with pytest.raises(EngineError, match=r"specialist 1: its worker \(process \d+\) was ended by signal 9"):
        found[0].unwrap()
    assert int(contexts[0].state["found"]) == 1
    with pytest.raises(EngineError, match="specialist 2 failed: ZeroDivisionError: what a fault says") as fault:
        found[1].unwrap()
    assert "Traceback" in fault.value.__notes__[0]
    assert [found[number].unwrap() for number in (2, 3)] == [10, 17]
    printed = capfd.readouterr()
    assert (printed.out, "a\\x1b[2Jb\nc\\x1b]0;title\\x07d\n" in printed.err) == ("", True)


def test_what_a_notebook_defines_is_done_by_this_process_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    class Amount(int):
        """Of a notebook, as far as pickle can see."""

    monkeypatch.setattr(Amount, "__module__", "__main__")
    with pytest.warns(UserWarning, match=r"Amount is defined in a notebook or script.*one process trains, not 2"):
        found = list(
            LocalWorkers(2).run([Square(1), Square(2)], Amount(1), Resources(), lambda _: TaskContext(Recorder()))
        )
    assert [outcome.unwrap() for outcome in found] == [2, 5]


def test_who_stops_early_leaves_no_worker_behind(monkeypatch) -> None:
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(popen(*args, **kwargs)) or started[-1]
    )
    generator = LocalWorkers(2).run([Square(n) for n in range(9)], 1, Resources(), lambda _: TaskContext(SILENT))
    next(generator)
    generator.close()
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)


def test_workers_give_the_specialists_that_one_process_gives(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    several = changed(settings, partition={"clusters": [3, 4]})
    coterie.fit(several, tmp_path / "one", splits=splits)
    coterie.fit(several, tmp_path / "two", splits=splits, engine=EngineSettings(workers=2))
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    for name in ("metrics.json", "history.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_limit_ends_workers_with_their_states_kept_and_the_next_start_ends_with_the_same_bits(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch
) -> None:
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **kwargs: started.append(popen(*args, **kwargs)) or started[-1]
    )
    engine, cut = EngineSettings(workers=2), tmp_path / "cut"
    coterie.fit(settings, tmp_path / "whole", splits=splits)
    with pytest.raises(LimitError):
        coterie.fit(settings, cut, splits=splits, engine=engine, limits=InSpecialists(cut))
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)
    assert any((cut / "checkpoint" / "specialists").rglob("*.safetensors"))
    coterie.fit(settings, cut, splits=splits, engine=engine)
    assert weights(cut) == weights(tmp_path / "whole")
    assert (cut / "history.json").read_bytes() == (tmp_path / "whole" / "history.json").read_bytes()


@dataclass(frozen=True)
class Threaded(Task[int, int]):
    """Sets the number of threads of the process that it runs in, as trainings do."""

    title: str = "threaded"

    def run(self, shared: int, context: TaskContext) -> int:
        torch.set_num_threads(shared)
        if context.progress is not SILENT:
            raise TrainingError("the loss became nan")
        return torch.get_num_threads()


@pytest.mark.parametrize("progress", [SILENT, Recorder()], ids=["result", "error"])
def test_this_process_keeps_its_number_of_threads_whatever_a_task_sets(progress) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (outcome,) = InProcess().run([Threaded()], 3, Resources(), lambda _: TaskContext(progress))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (outcome.result, outcome.error is None) == ((3, True) if progress is SILENT else (None, False))


def test_workers_are_as_many_as_gpus_or_threads_suffice_for(monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert auto_workers(5, Resources(threads=1, seconds=1000)) == 5
    assert auto_workers(9, Resources(threads=2, seconds=1000)) == 4
    assert auto_workers(9, Resources(threads=9, seconds=1000)) == 1
    assert auto_workers(9, Resources(gpus=1, seconds=1000)) == 4
    assert auto_workers(9, Resources(seconds=3)) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert auto_workers(99, Resources(threads=1, seconds=1000)) == 16


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from dataclasses import dataclass
            sys.path.insert(0, sys.argv[1])
            from engine_tasks import Endless
            from coterie.engine import Resources, TaskContext
            from coterie.engine.local import LocalWorkers
            from coterie.progress import Progress

            class Telling(Progress):
                def note(self, text):
                    print(text, flush=True)

            list(LocalWorkers(2).run([Endless(), Endless()], 0, Resources(), lambda _: TaskContext(Telling())))
            """
        )
    )
    driver = subprocess.Popen(
        [sys.executable, script, ROOT / "tests"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        pids: set[int] = set()
        while len(pids) < 2:
            pids.add(int(driver.stdout.readline()))
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
    deadline = time.monotonic() + 240
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, pids))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
