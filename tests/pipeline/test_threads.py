"""CPU threads of the base's training, on a machine that others use too."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.pipeline import threads as module
from coterie.pipeline.fit import fit_base
from coterie.pipeline.prepare import Prepared, prepare
from coterie.pipeline.threads import ThreadWatch, settle_threads
from coterie.pipeline.timing import cpu_threads
from coterie.progress import Progress
from coterie.run.folder import Run
from coterie.run.names import BASE_FILE
from coterie.system.load import OthersLoad
from coterie.training.hooks import NO_HOOK
from helpers import changed

QUIET, BUSY = SimpleNamespace(cores=lambda: 0.1), SimpleNamespace(cores=lambda: 1.5)


class Notes(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with cpu_threads(4):
        yield


@pytest.fixture
def settings(settings: FitSettings) -> FitSettings:
    """That leave the threads open."""
    return changed(settings, hardware={"threads": None})


@pytest.fixture
def run(tmp_path: Path, settings: FitSettings) -> Run:
    run = Run.create_or_resume(tmp_path / "run", settings)
    run.update(disk_bytes=0)
    return run


@pytest.fixture
def prepared(settings: FitSettings, splits: Splits) -> Prepared:
    return prepare(settings, splits=splits)


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> list[int]:
    """Steps take so long with so many threads; returns the numbers that were tried."""
    tried: list[int] = []

    def training_seconds(*_: object) -> float:
        tried.append(torch.get_num_threads())
        return seconds[tried[-1]]

    monkeypatch.setattr(module, "training_seconds", training_seconds)
    return tried


def test_beside_others_the_fastest_number_is_taken_and_said(monkeypatch, prepared: Prepared, run: Run) -> None:
    tried, notes = timed(monkeypatch, {4: 2.0, 2: 0.8, 1: 0.7}), Notes()
    assert settle_threads(prepared, run, BUSY, notes).base_threads == 2  # with 1 it is not clearly faster
    assert tried == [4, 2, 1]
    assert torch.get_num_threads() == 4
    [said] = notes.lines
    assert said.startswith("base: 2 CPU threads in place of 4, 2.5 times as fast beside what else runs here")
    assert "--hardware.threads 4 overrules this" in said


def test_where_more_threads_are_faster_they_stay(monkeypatch, prepared: Prepared, run: Run) -> None:
    tried, notes = timed(monkeypatch, {4: 1.0, 2: 0.9}), Notes()
    assert settle_threads(prepared, run, BUSY, notes).base_threads == 4
    assert (tried, notes.lines) == ([4, 2], [])
    timed(monkeypatch, {4: 0.0, 2: 0.0})  # fewer batches than warm-up steps
    assert settle_threads(prepared, run, BUSY, notes).base_threads == 4


def test_a_quiet_machine_is_not_timed(monkeypatch, prepared: Prepared, run: Run) -> None:
    tried = timed(monkeypatch, {})
    assert settle_threads(prepared, run, QUIET, Notes()).base_threads == 4
    assert tried == []


def test_what_is_named_or_is_no_training_is_left_alone(
    monkeypatch, prepared: Prepared, settings: FitSettings, splits: Splits, run: Run
) -> None:
    tried = timed(monkeypatch, {})
    named = replace(prepared, settings=changed(settings, hardware={"threads": 3}))
    brought = replace(prepared, base=replace(prepared.base, trained=True))
    for each in (named, brought, replace(prepared, base_run=run)):
        assert settle_threads(each, run, BUSY, Notes()).base_threads is None
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert settle_threads(prepared, run, BUSY, Notes()).base_threads is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    with cpu_threads(1):
        assert settle_threads(prepared, run, BUSY, Notes()).base_threads is None
    assert tried == []


def test_a_run_that_goes_on_has_the_threads_that_it_had(monkeypatch, prepared: Prepared, run: Run) -> None:
    tried = timed(monkeypatch, {})
    run.update(base_threads=((0, 4), (3, 2)))
    assert settle_threads(prepared, run, BUSY, Notes()).base_threads == 2
    run.update(base_threads=((0, 64),))  # on another machine
    assert settle_threads(prepared, run, BUSY, Notes()).base_threads == 4
    assert tried == []


class Machine:
    """A watch over epochs that take so many seconds each, beside others or not; the threads after each."""

    def __init__(self, run: Run, *, adapts: bool = True) -> None:
        self.now, self.others, self.notes = 0.0, 1.5, Notes()
        load, clock = lambda: SimpleNamespace(cores=lambda: self.others), lambda: self.now
        self.watch = ThreadWatch(NO_HOOK, run, self.notes, most=4, adapts=adapts, load=load, clock=clock)
        self.history: list[tuple[float, float]] = []
        self.watch.load()

    def epoch(self, seconds: float, others: float = 1.5) -> int:
        self.now, self.others = self.now + seconds, others
        self.history.append((1.0, 0.5))
        self.watch.epoch(self.history, dict)
        return torch.get_num_threads()


def test_where_the_rate_falls_fewer_threads_are_tried_and_kept_if_faster(run: Run) -> None:
    machine = Machine(run)
    assert [machine.epoch(seconds) for seconds in (10, 19, 21, 15, 16)] == [4, 4, 2, 2, 2]
    assert machine.epoch(16, others=0.1) == 4  # the others have left
    assert run.manifest.base_threads == ((0, 4), (3, 2), (6, 4))
    assert ["2.1 times as long as the best one" in line for line in machine.notes.lines] == [True, False]
    assert "nothing else uses the cores any more" in machine.notes.lines[1]


def test_fewer_threads_that_are_slower_are_given_back_and_not_tried_again_at_once(run: Run) -> None:
    machine = Machine(run)
    assert [machine.epoch(seconds) for seconds in (10, 25, 30, 25, 26)] == [4, 2, 4, 4, 4]
    assert machine.epoch(60) == 2  # it has fallen by half again
    assert run.manifest.base_threads == ((0, 4), (2, 2), (3, 4), (6, 2))


def test_named_threads_do_not_change(run: Run) -> None:
    machine = Machine(run, adapts=False)
    assert [machine.epoch(seconds) for seconds in (10, 100, 100)] == [4, 4, 4]
    assert run.manifest.base_threads == ((0, 4),)


def test_an_epoch_that_is_gone_on_with_is_no_measure(run: Run) -> None:
    machine = Machine(run)
    machine.watch.from_its_start = False
    assert [machine.epoch(seconds) for seconds in (1, 10, 12)] == [4, 4, 4]


def test_the_run_records_the_threads_and_gives_them_back(
    monkeypatch, settings: FitSettings, splits: Splits, tmp_path: Path
) -> None:
    timed(monkeypatch, {2: 2.0, 1: 1.0})
    monkeypatch.setattr(OthersLoad, "cores", lambda self: 1.5)
    small = changed(settings, base={"epochs": 1, "batch_size": 64})
    with cpu_threads(2):
        fit_base(small, tmp_path / "new", splits=splits)
        assert torch.get_num_threads() == 2
    run = Run.open(tmp_path / "new")
    assert run.manifest.base_threads == ((0, 1),)
    assert run.has(BASE_FILE)
