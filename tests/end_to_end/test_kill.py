"""Runs that are killed, at any moment and in any way, and go on."""

import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, LimitError
from coterie.run import folder as run_folder
from coterie.run.folder import Run
from coterie.system import files, lock
from coterie.system.limits import Limits
from coterie.training import checkpoint
from helpers import make_settings, make_splits

pytestmark = pytest.mark.slow

KILLS = 6


@pytest.fixture(scope="module")
def whole(trained_run: Path) -> dict[str, object]:
    """What a run that nothing happened to leaves."""
    return result(trained_run)


def result(path: Path) -> dict[str, object]:
    """All that must be the same, bit for bit: weights, logits, figures, history, and what the manifest says of them.
    Seconds, costs, and the report that shows them, may differ.
    """
    kept = [path / "metrics.json", path / "history.json", *path.rglob("*.safetensors")]
    manifest = Run.open_complete(path).manifest
    same = manifest.model_dump(include={"data", "head", "partition", "gate", "settings"})
    return {**{str(file.relative_to(path)): file.read_bytes() for file in kept}, "manifest": same}


def fit_long(path: Path) -> None:
    """A run in a process of its own, long enough for killing it."""
    training = {"batch_size": 16, "learning_rate": 0.02}
    values = {
        **make_settings().to_values(),
        "checkpoint_every": 5,
        "base": {**training, "epochs": 16},
        "specialist": {**training, "epochs": 8},
        "partition": {"clusters": [2, 3]},
    }
    coterie.fit(FitSettings.from_values(values), path, splits=make_splits())


def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["coterie.pipeline.fit", "helpers"])

    def start(path: Path) -> multiprocessing.process.BaseProcess:
        process = processes.Process(target=fit_long, args=(path,))
        process.start()
        return process

    start(tmp_path / "warm").join()  # imports, once for all
    began = time.monotonic()
    process = start(tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    life = time.monotonic() - began
    chance = random.Random(0)
    kills, finished = 0, 0
    while kills < KILLS or finished == 0:
        path = tmp_path / str(finished)
        process = start(path)
        process.join(chance.uniform(0, 0.6 * life) if kills < KILLS else None)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.exitcode == 0
        assert result(path) == result(tmp_path / "whole")
        finished += 1


class Killed(BaseException):
    """What a process does not live to see."""


@pytest.mark.parametrize("seed", range(2))
def test_a_process_that_dies_before_or_after_any_rename_loses_nothing(
    whole: dict[str, object],
    seed: int,
    tmp_path: Path,
    settings: FitSettings,
    splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance, rename, path = random.Random(seed), Path.replace, tmp_path / "cut"
    monkeypatch.setattr(files, "_discard", lambda _: None)  # a dead process tidies nothing up
    starts = 0
    while not (path / "manifest.json").exists() or not Run.open(path).manifest.complete:
        starts += 1
        left, before = chance.randint(1, 30), chance.random() < 0.5

        def replace(self: Path, target: Path, before: bool = before) -> Path:
            nonlocal left
            left -= 1
            if left == 0 and before:
                raise Killed
            rename(self, target)
            if left == 0:
                raise Killed
            return target

        monkeypatch.setattr(Path, "replace", replace)
        with contextlib.suppress(Killed):
            coterie.fit(settings, path, splits=splits)
        monkeypatch.setattr(Path, "replace", rename)
    assert starts > 2
    assert result(path) == whole
    assert not list(path.rglob("*.tmp"))
    assert not [file for file in (path / "checkpoint").rglob("*") if file.is_file()]
    assert not [file for file in (path / "logits" / "stages").rglob("*") if file.is_file()]


def test_a_run_killed_before_it_had_a_manifest_begins_anew(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    for name in (lock.LOCK, lock.HOLDER, ".manifest.json.tmp"):
        (tmp_path / name).write_text("{")
    coterie.fit(settings, tmp_path, splits=splits)
    assert Run.open_complete(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_killed_writes_left_is_swept_and_what_others_left_is_not(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    path = tmp_path / "run"
    with pytest.raises(LimitError):
        coterie.fit(settings, path, splits=splits, limits=limits_at_step(29))  # the second epoch of a specialist
    strange = [path / "notes.txt", path / "controls" / "member-1" / ".base.safetensors.tmp"]
    killed = [
        path / ".history.json.tmp",
        path / "specialists" / "3" / ".0.safetensors.tmp",
        path / "specialists" / "9" / "0.safetensors",
        path / "logits" / "test.safetensors",
        path / "checkpoint" / "base.safetensors",
    ]
    for file in (*strange, *killed):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    run = Run.open(path)
    run.sweep()
    assert all(file.exists() for file in strange)
    assert not any(file.exists() for file in killed)
    assert run.has("base.safetensors")
    assert any((path / "checkpoint" / "specialists").rglob("*.safetensors"))  # the training that is under way


def limits_at_step(step: int) -> Limits:
    class AtStep(Limits):
        checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks == step:
                raise LimitError("enough")

    return AtStep()


@pytest.mark.parametrize("step", [1, 10, 26, 29])
def test_a_limit_stops_a_run_where_it_can_go_on_without_loss(
    whole: dict[str, object], step: int, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    with pytest.raises(LimitError):
        coterie.fit(settings, tmp_path / "cut", splits=splits, limits=limits_at_step(step))
    counting = limits_at_step(10**9)
    coterie.fit(settings, tmp_path / "cut", splits=splits, limits=counting)
    assert result(tmp_path / "cut") == whole
    # 24 steps of the base and about as many of the specialists; a stage asks once more when it begins.
    assert counting.checks + step <= 24 + 12 + 2 * 4 + 4 + 1


def test_states_and_logits_of_finished_stages_are_not_made_again(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coterie.pipeline import finish, job, partitions

    asked, compute_logits = [], job.compute_logits

    def counted(fabric, network, images, *rest, **more):
        asked.append(len(images))
        return compute_logits(fabric, network, images, *rest, **more)

    def full(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(job, "compute_logits", counted)
    monkeypatch.setattr(finish, "_measure_costs", full)
    with pytest.raises(Killed):
        coterie.fit(settings, tmp_path / "run", splits=splits)
    assert len(asked) == 2 * 4  # base and three specialists, on validation and test
    monkeypatch.setattr(partitions, "make_partition", full)
    with pytest.raises(Killed):
        coterie.fit(settings, tmp_path / "run", splits=splits)
    assert len(asked) == 2 * 4


@contextlib.contextmanager
def small_disk(tmp_path: Path, size: str):
    """A file system of a given size. Mounting one takes a right that few have."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("size", ["36k", "84k", "180k", "260k"])
def test_a_full_disk_stops_with_a_clear_error_and_the_run_goes_on_once_there_is_room(
    whole: dict[str, object], size: str, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    with small_disk(tmp_path, size) as disk:
        with pytest.raises(
            ArtifactError, match=r"cannot write .* No space left on device.*make room and start the same"
        ):
            coterie.fit(settings, disk / "run", splits=splits)
        assert not list((disk / "run").rglob("*.tmp"))
        if (disk / "run" / "manifest.json").exists():
            run = Run.open(disk / "run")
            assert all(run.has(name) for name in run.manifest.files)
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        coterie.fit(settings, disk / "run", splits=splits)
        assert result(disk / "run") == whole


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
def test_a_limit_on_the_size_of_files_counts_as_a_full_disk(
    whole: dict[str, object], tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(ArtifactError, match=r"cannot write .*base.safetensors .*File too large.*make room"):
            coterie.fit(settings, tmp_path / "cut", splits=splits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not Run.open(tmp_path / "cut").manifest.complete
    coterie.fit(settings, tmp_path / "cut", splits=splits)
    assert result(tmp_path / "cut") == whole


def test_a_read_only_folder_is_named(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    with small_disk(tmp_path, "8m") as disk:
        coterie.fit(settings, disk / "done", splits=splits)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(ArtifactError, match=r"cannot write to .*Read-only file system. Choose another --out"):
            coterie.fit(settings, disk / "run", splits=splits)
        # Reading asks for nothing more.
        assert coterie.load(disk / "done").predict(splits.test.samples).shape == (64,)
        coterie.fit(settings, disk / "done", splits=splits)
        values = json.loads((disk / "done" / "manifest.json").read_text())
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        (disk / "done" / "manifest.json").write_text(json.dumps({**values, "complete": False}))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(ArtifactError, match=r"cannot write to .*Read-only file system. Choose another --out"):
            coterie.fit(settings, disk / "done", splits=splits)


def test_clocks_that_jump_change_nothing(
    whole: dict[str, object], tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = time.time, []

    def jumping() -> float:
        calls.append(1)
        return real() + (1e7 if len(calls) % 2 else -1e7)

    monkeypatch.setattr(time, "time", jumping)
    with pytest.raises(LimitError):
        coterie.fit(settings, tmp_path / "cut", splits=splits, limits=limits_at_step(15))
    later = settings.model_copy(update={"max_time": "1h", "max_memory": "1TiB"})
    coterie.fit(later, tmp_path / "cut", splits=splits)
    cut = result(tmp_path / "cut")
    del cut["manifest"]
    assert cut.items() <= whole.items()
    assert all(0 <= seconds < 3600 for seconds in Run.open(tmp_path / "cut").manifest.seconds.values())


def test_a_run_begun_with_other_versions_says_so_once(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coterie.progress import Progress

    class Noting(Progress):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    with pytest.raises(LimitError):
        coterie.fit(settings, tmp_path / "run", splits=splits, limits=limits_at_step(10))
    versions = {**run_folder.installed_versions(), "coterie": "99.0", "torch": "99.1"}
    monkeypatch.setattr(run_folder, "installed_versions", lambda: versions)
    for step, n_notes in ((5, 1), (10**9, 0)):
        noting = Noting()
        with contextlib.suppress(LimitError):
            coterie.fit(settings, tmp_path / "run", splits=splits, limits=limits_at_step(step), progress=noting)
        assert len([note for note in noting.notes if "begun with other versions" in note]) == n_notes
        assert n_notes == 0 or ("-> '99.0'" in noting.notes[0] and "-> '99.1'" in noting.notes[0])
    manifest = Run.open_complete(tmp_path / "run").manifest
    assert manifest.versions["torch"] != "99.1"
    assert manifest.later_versions == (versions,)


def test_given_groups_that_change_on_the_way_are_refused(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps(list("aabbccdd")))
    given = FitSettings.from_values({**settings.to_values(), "partition": {"method": "given", "groups": str(groups)}})
    with pytest.raises(LimitError):
        coterie.fit(given, tmp_path / "run", splits=splits, limits=limits_at_step(30))
    groups.write_text(json.dumps(list("abababab")))
    with pytest.raises(ArtifactError, match=r"the groups of .*groups.json have changed since"):
        coterie.fit(given, tmp_path / "run", splits=splits)


def test_a_second_run_on_the_same_folder_is_refused_before_it_reads_data(tmp_path: Path, settings: FitSettings) -> None:
    with lock.hold(tmp_path / "run"), pytest.raises(ArtifactError, match=f"written by process {os.getpid()} on"):
        coterie.fit(settings, tmp_path / "run")


def test_settings_that_do_not_matter_may_change(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    with pytest.raises(LimitError):
        coterie.fit(settings, tmp_path / "run", splits=splits, limits=limits_at_step(10))
    values = settings.to_values()
    free = {
        **values,
        "checkpoint_every": 3,
        "max_time": "1h",
        "max_memory": "1TiB",
        "track": {"tensorboard": False},
        "data": {**values["data"], "workers": 0, "memory_gib": 1},
        "hardware": {**values["hardware"], "threads": None},
    }
    coterie.fit(FitSettings.from_values(free), tmp_path / "run", splits=splits)
    assert Run.open_complete(tmp_path / "run").settings.checkpoint_every == 3
    with pytest.raises(ArtifactError, match=r"hardware.precision: 'fp32' -> 'bf16'\. Choose another"):
        Run.create_or_resume(
            tmp_path / "run", FitSettings.from_values({**free, "hardware": {**free["hardware"], "precision": "bf16"}})
        )


def test_a_run_takes_no_more_disk_than_it_said(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coterie.pipeline import prepare

    monkeypatch.setattr(prepare, "OTHER_BYTES", 0)
    path, taken = tmp_path / "run", []

    def watched(file: Path, content: bytes) -> None:
        write(file, content)
        parts = ("*.safetensors", "checkpoint/**/*")
        kept = {each for part in parts for each in path.rglob(part) if each.is_file()}
        replaced = len(content) if file in kept else 0
        taken.append(sum(each.stat().st_size for each in kept) + replaced)

    write = files.write_whole
    for module in (run_folder, checkpoint):
        monkeypatch.setattr(module, "write_whole", watched)
    coterie.fit(settings, path, splits=splits)
    bound = Run.open_complete(path).manifest.disk_bytes
    assert bound / 4 < max(taken) < bound + 60_000  # names of tensors, and examples
