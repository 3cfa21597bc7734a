import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import LimitError, SettingsError
from coterie.progress import SILENT, Progress
from coterie.run.folder import Run
from coterie.system.limits import Limits
from coterie.training import tracking
from coterie.training.tracking import ClientTracker, MlflowTracker, TensorBoardTracker, Trackers, make_trackers

HISTORY = [(2.0, 0.25), (1.0, 0.5), (0.5, 0.75)]


class Noting(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class StopsAt(Limits):
    def __init__(self, check: int) -> None:
        super().__init__()
        self.left = check

    def check(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise LimitError("enough")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What the event files of a folder hold, read by the format's definition: length, checksum, record, checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events*")):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[12 + length + 4 :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_an_epoch_is_written_once_also_by_a_process_that_goes_on(tmp_path: Path) -> None:
    first = TensorBoardTracker(tmp_path)
    first.epochs("specialist 0 of 3", HISTORY[:1])
    first.epochs("specialist 0 of 3", HISTORY[:2])  # and dies
    second = TensorBoardTracker(tmp_path)
    second.epochs("specialist 0 of 3", HISTORY[:2])
    second.epochs("specialist 0 of 3", HISTORY)
    second.epochs("specialist 1 of 3", HISTORY[:1])
    second.finish({"test/gain": 0.5}, [])
    first.close()
    second.close()
    shown = scalars(tmp_path / "logs" / "specialist-0-of-3")
    assert shown["loss"] == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert shown["accuracy"] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert scalars(tmp_path / "logs" / "specialist-1-of-3")["loss"] == [(1, 2.0)]
    assert scalars(tmp_path / "logs" / "result") == {"test/gain": [(0, 0.5)]}


@pytest.mark.parametrize("check", [2, 14, 27, 33])
def test_a_run_that_was_cut_shows_each_epoch_once(
    check: int, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    path = tmp_path / "run"
    with pytest.raises(LimitError):
        coterie.fit(settings, path, splits=splits, limits=StopsAt(check))
    coterie.fit(settings, path, splits=splits)
    history = Run.open_complete(path).read_json("history.json")
    for title, epochs in history.items():
        shown = scalars(path / "logs" / title.replace(" ", "-"))
        assert [step for step, _ in shown["loss"]] == list(range(1, len(epochs) + 1))
        assert [value for _, value in shown["loss"]] == pytest.approx([epoch["loss"] for epoch in epochs])
    result = scalars(path / "logs" / "result")
    metrics = Run.open_complete(path).read_json("metrics.json")["test"]
    ((step, value),) = result["test/ensemble"]
    assert (step, value) == (0, pytest.approx(metrics["ensemble_top1"]))
    assert {"gate/routed", "router/accuracy", "cluster-0/specialist", "seconds/base.safetensors"} <= set(result)


def test_mlflow_holds_the_run_once_and_its_artifact_loads(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="needs MLflow")
    # As it is typed; through a link, as folders of runs often are.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    path, store = Path("runs/run"), Path("mlruns")
    ours = settings.model_copy(update={"track": settings.track.model_copy(update={"mlflow": str(store)})})
    with pytest.raises(LimitError):
        coterie.fit(ours, path, splits=splits, limits=StopsAt(14))
    coterie.fit(ours, path, splits=splits)
    tracker = MlflowTracker(store, path, ours)
    client = tracker._open()
    (experiment,) = (e for e in client.search_experiments() if e.name == "coterie")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["base.epochs"] == "4"
    metrics = Run.open_complete(path).read_json("metrics.json")["test"]
    assert run.data.metrics["test/ensemble"] == pytest.approx(metrics["ensemble_top1"])
    for title, epochs in Run.open_complete(path).read_json("history.json").items():
        shown = client.get_metric_history(run.info.run_id, f"{title}/loss")
        assert [(m.step, m.value) for m in shown] == [(k + 1, epoch["loss"]) for k, epoch in enumerate(epochs)]
    kept = Path(run.info.artifact_uri.removeprefix("file://")) / "run"
    fitted, loaded = coterie.load(path), coterie.load(kept)
    assert (fitted.predict_proba(splits.test.samples) == loaded.predict_proba(splits.test.samples)).all()


def test_without_tensorboard_a_run_goes_on_and_says_so_once(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    noting = Noting()
    coterie.fit(settings, tmp_path / "run", splits=splits, progress=noting)
    assert [note for note in noting.notes if "tensorboardX is not installed" in note] == noting.notes[:1]
    assert not (tmp_path / "run" / "logs").exists()


def test_mlflow_that_is_asked_for_and_not_there_is_an_error(
    tmp_path: Path, settings: FitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    asked = settings.model_copy(update={"track": settings.track.model_copy(update={"mlflow": "mlruns"})})
    with pytest.raises(SettingsError, match=r"track.mlflow = 'mlruns': MLflow is not installed; pip install 'coterie"):
        make_trackers(asked, tmp_path, SILENT)


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    class Failing(TensorBoardTracker):
        def epochs(self, title: str, history: tracking.History) -> None:
            raise OSError(28, "No space left on device")

    noting = Noting()
    trackers = Trackers([Failing(tmp_path / "a"), TensorBoardTracker(tmp_path / "b")], noting)
    trackers.epochs("base", HISTORY[:1])
    trackers.epochs("base", HISTORY)
    trackers.close()
    assert noting.notes == ["the log for TensorBoard ends here: [Errno 28] No space left on device"]
    assert len(scalars(tmp_path / "b" / "logs" / "base")["loss"]) == 3


def test_trackers_that_are_off_are_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom coterie.config import FitSettings\n"
        "from coterie.progress import SILENT\nfrom coterie.training.tracking import make_trackers\n"
        f"make_trackers(FitSettings(), Path({str(tmp_path)!r}), SILENT).close()\n"
        "assert not {'tensorboardX', 'mlflow', 'torch'} & set(sys.modules), 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_logs_behind_a_link_are_neither_deleted_nor_written(tmp_path: Path) -> None:
    precious = tmp_path / "docs" / "base" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    (run / "logs").symlink_to("../docs")
    noting = Noting()
    trackers = Trackers([TensorBoardTracker(run)], noting)
    trackers.epochs("base", HISTORY)
    assert [note.partition(":")[0] for note in noting.notes] == ["the log for TensorBoard ends here"]
    assert [file for file in (tmp_path / "docs").rglob("*") if file.is_file()] == [precious]


class Client:
    """With wandb's interface: what was logged, by run."""

    def __init__(self, *, by_id: bool) -> None:
        self.logged: dict[str, list[dict[str, float]]] = {}
        self.n_finished = 0
        if by_id:
            self.init = lambda project, name, config, resume, id: self._init(id)  # noqa: A006 - wandb's own name
        else:
            self.init = lambda project, name, config, resume: self._init(name)

    def _init(self, run: str) -> "Client":
        self.rows = self.logged.setdefault(run, [])
        return self

    def log(self, metrics: dict[str, float]) -> None:
        self.rows.append(metrics)

    def finish(self) -> None:
        self.n_finished += 1


@pytest.mark.parametrize("by_id", [True, False])
def test_a_client_of_wandbs_interface_gets_each_epoch_once(
    by_id: bool, tmp_path: Path, settings: FitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(by_id=by_id)
    monkeypatch.setitem(sys.modules, "wandb", client)
    first = ClientTracker("wandb", tmp_path, settings)
    first.epochs("base", HISTORY[:2])  # and dies
    second = ClientTracker("wandb", tmp_path, settings)
    second.epochs("base", HISTORY)
    second.finish({"test/gain": 0.5}, [])
    second.finish({"test/gain": 0.5}, [])
    second.close()
    ((run, rows),) = client.logged.items()
    assert run.startswith(tmp_path.name)
    assert rows == [
        *({"base/epoch": k, "base/loss": loss, "base/accuracy": share} for k, (loss, share) in enumerate(HISTORY, 1)),
        {"test/gain": 0.5},
    ]
    assert client.n_finished == 1


def test_a_client_that_is_not_installed_is_named(
    tmp_path: Path, settings: FitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings.model_copy(update={"track": settings.track.model_copy(update={"client": "wandb"})})
    monkeypatch.setattr(tracking, "_installed", lambda module: module != "wandb")
    with pytest.raises(SettingsError, match=r"track.client = 'wandb': it is not installed; pip install wandb"):
        make_trackers(asked, tmp_path, SILENT)


def test_trackio_shows_each_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="needs trackio")
    # In a process of its own: it reads its folder when it is imported, and starts threads.
    script = """
import sys
from pathlib import Path
from coterie.config import FitSettings
from coterie.training.tracking import ClientTracker
folder = Path(sys.argv[1])
for seen in ([(2.0, 0.25)], [(2.0, 0.25), (1.0, 0.5)]):
    tracker = ClientTracker("trackio", folder, FitSettings())
    tracker.epochs("base", seen)
    tracker.close()
from trackio.sqlite_storage import SQLiteStorage
(run,) = SQLiteStorage.get_runs("coterie")
rows = [row for row in SQLiteStorage.get_logs("coterie", run) if "base/epoch" in row]
print([(row["base/epoch"], row["base/loss"]) for row in rows])
"""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    # At the end it says once more that the run is finished.
    assert found.stdout.splitlines()[0] == "[(1, 2.0), (2, 1.0)]", found.stderr
