"""Trackers of a run: TensorBoard's event files in RUN/logs; and, where the settings name them, MLflow's file store, and
wandb or trackio.

A tracker gets the whole history of a training after each epoch, and writes what it has not written yet, so that a run
which is started again shows each epoch once. Neither library is imported before there is something to write. A tracker
that fails is left out from there on, with a note: a run is worth more than its log.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from coterie.config import FitSettings, TrackSettings
from coterie.errors import SettingsError
from coterie.progress import SILENT, Progress
from coterie.system.files import place_below, read_regular, write_whole
from coterie.system.json_text import from_json, to_json

LOGS = "logs"
EXPERIMENT = "coterie"
MEMORY_BYTES = 2**16
History = Sequence[tuple[float, float]]


class Tracker(ABC):
    """Follows one run."""

    name: str

    @abstractmethod
    def epochs(self, title: str, history: History) -> None:
        """Mean loss and accuracy of each epoch so far of the training of this title."""

    @abstractmethod
    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """The figures of the finished run by name, and its files."""

    @abstractmethod
    def close(self) -> None:
        """Release what is open; nothing more will come in this process."""


class TensorBoardTracker(Tracker):
    """Event files in RUN/logs, in a folder for each training. The folder of a training that goes on is written anew."""

    name = "TensorBoard"

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.title = ""
        self.written = 0
        self.writer: Any = None

    @override
    def epochs(self, title: str, history: History) -> None:
        self._begin(title)
        for number, (loss, accuracy) in enumerate(history[self.written :], start=self.written + 1):
            self._write({"loss": loss, "accuracy": accuracy}, number)
        self.written = len(history)

    @override
    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        self._begin("result")
        self._write(figures, 0)

    @override
    def close(self) -> None:
        if self.writer is not None:
            try:
                self.writer.close()
            finally:
                # Where the disk is full it does not get as far as its file.
                self.writer._py_recordio_writer.close()

    def _begin(self, title: str) -> None:
        if title == self.title:
            return
        # Not SummaryWriter, whose thread would meet a full disk where nobody sees it.
        from tensorboardX.event_file_writer import EventsWriter

        self.close()
        # The folder of logs may be a link, and what it leads to is not ours to delete.
        place = place_below(self.run_folder, LOGS + "/" + re.sub(r"\W+", "-", title))
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self.title, self.written, self.writer = title, 0, EventsWriter(str(place / "events"))

    def _write(self, figures: Mapping[str, float], step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in figures.items():
            self.writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
        self.writer.flush()


class MlflowTracker(Tracker):
    """One MLflow run per run folder, in a store of plain files that needs no server."""

    name = "MLflow"

    def __init__(self, store: Path, run_folder: Path, settings: FitSettings) -> None:
        self.store = store.resolve()
        self.run_folder = run_folder.resolve()
        self.settings = settings
        self._client: Any = None
        self.run_id = ""

    @override
    def epochs(self, title: str, history: History) -> None:
        from mlflow.entities import Metric

        names = (f"{title}/loss", f"{title}/accuracy")
        client = self._open()
        first = len(client.get_metric_history(self.run_id, names[1]))
        rows = [
            Metric(name, value, 0, number)
            for number, values in enumerate(history[first:], start=first + 1)
            for name, value in zip(names, values, strict=True)
        ]
        if rows:
            client.log_batch(self.run_id, metrics=rows)

    @override
    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        client = self._open()
        # A start that died while it wrote these may have written some: MLflow would keep both values.
        known = client.get_run(self.run_id).data.metrics
        for name, value in figures.items():
            if name not in known:
                client.log_metric(self.run_id, name, value)
        for file in files:
            place = (Path("run") / file.resolve().relative_to(self.run_folder)).parent.as_posix()
            client.log_artifact(self.run_id, str(file), place)
        client.set_terminated(self.run_id, "FINISHED")

    @override
    def close(self) -> None:
        """Do nothing: after each call of the client, all is on disk."""

    def _open(self) -> Any:
        if self._client is None:
            _set_mlflow_environment()
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self.store.as_uri())
            self.run_id = self._known_run() or self._begin_run()
        return self._client

    def _known_run(self) -> str | None:
        """The MLflow run that an earlier start began."""
        try:
            known = from_json(read_regular(self._memory(), MEMORY_BYTES))
        except FileNotFoundError:
            return None
        return known["run_id"] if known["store"] == str(self.store) else None

    def _memory(self) -> Path:
        """Where the number of the MLflow run is kept."""
        return place_below(self.run_folder, f"{LOGS}/mlflow.json")

    def _begin_run(self) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        run = self._client.create_run(number, tags={"run_folder": str(self.run_folder)}, run_name=self.run_folder.name)
        run_id: str = run.info.run_id
        for name, value in _flat(self.settings.to_values()):
            self._client.log_param(run_id, name, value)
        write_whole(self._memory(), to_json({"store": str(self.store), "run_id": run_id}))
        return run_id


class ClientTracker(Tracker):
    """A run of wandb, or of a library with its interface. What it logged is noted in RUN/logs: only what is kept there
    is known of by a process that goes on. No file of the run is sent, since its service may be anywhere.

    Args:
        client: the library's name.
        run_folder: of the run, whose name the client's run gets.
        settings: of the run.
    """

    def __init__(self, client: Literal["wandb", "trackio"], run_folder: Path, settings: FitSettings) -> None:
        self.name = client
        self.run_folder = run_folder
        self.settings = settings
        self._run: Any = None
        self._run_name = ""
        self._written: dict[str, int] = {}

    @override
    def epochs(self, title: str, history: History) -> None:
        run, first = self._open(), self._written.get(title, 0)
        for number, (loss, accuracy) in enumerate(history[first:], start=first + 1):
            run.log({f"{title}/epoch": number, f"{title}/loss": loss, f"{title}/accuracy": accuracy})
        self._note(title, max(first, len(history)))

    @override
    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        run = self._open()
        if not self._written.get("result"):
            run.log(dict(figures))
            self._note("result", 1)

    @override
    def close(self) -> None:
        if self._run is not None:
            with redirect_stdout(sys.stderr):
                self._run.finish()
            self._run = None

    def _open(self) -> Any:
        if self._run is not None:
            return self._run
        try:
            known = from_json(read_regular(self._memory(), MEMORY_BYTES))
        except FileNotFoundError:
            known = {"run": f"{self.run_folder.resolve().name}-{secrets.token_hex(4)}", "written": {}}
        self._run_name, self._written = str(known["run"]), dict(known["written"])
        client = import_module(self.name)
        # wandb finds a run again by its id, trackio by its name.
        by_id = {"id": self._run_name} if "id" in signature(client.init).parameters else {}
        config = dict(_flat(self.settings.to_values()))
        with redirect_stdout(sys.stderr):  # standard output is the command's own
            self._run = client.init(project=EXPERIMENT, name=self._run_name, config=config, resume="allow", **by_id)
        return self._run

    def _note(self, title: str, number: int) -> None:
        self._written[title] = number
        write_whole(self._memory(), to_json({"run": self._run_name, "written": self._written}))

    def _memory(self) -> Path:
        return place_below(self.run_folder, f"{LOGS}/{self.name}.json")


class Trackers:
    """All trackers of a run; one that fails is left out, with one note."""

    def __init__(self, trackers: Sequence[Tracker] = (), progress: Progress = SILENT) -> None:
        self.trackers = list(trackers)
        self.progress = progress

    def epochs(self, title: str, history: History) -> None:
        """As ``Tracker.epochs``."""
        self._tell(lambda tracker: tracker.epochs(title, history))

    def finish(self, figures: Mapping[str, float], files: Sequence[Path]) -> None:
        """As ``Tracker.finish``."""
        self._tell(lambda tracker: tracker.finish(figures, files))

    def close(self) -> None:
        """As ``Tracker.close``."""
        self._tell(lambda tracker: tracker.close())

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                what(tracker)
            except Exception as error:  # whatever its library raises: training is worth more
                self.trackers.remove(tracker)
                with suppress(Exception):  # likely the same once more
                    tracker.close()
                self.progress.note(f"the log for {tracker.name} ends here: {error}")


NO_TRACKERS = Trackers()


def make_trackers(settings: FitSettings, run_folder: Path, progress: Progress) -> Trackers:
    """The trackers that the settings name and whose libraries are installed.

    Raises:
        SettingsError: MLflow, or a client, was asked for and is not installed.
    """
    track: TrackSettings = settings.track
    trackers: list[Tracker] = []
    if track.tensorboard:
        if _installed("tensorboardX"):
            trackers.append(TensorBoardTracker(run_folder))
        else:
            progress.note("no log for TensorBoard: tensorboardX is not installed (pip install tensorboardX)")
    if track.mlflow is not None:
        if not _installed("mlflow"):
            raise SettingsError(
                f"track.mlflow = {track.mlflow!r}: MLflow is not installed; pip install 'coterie[mlflow]'"
            )
        trackers.append(MlflowTracker(Path(track.mlflow), run_folder, settings))
    if track.client is not None:
        if not _installed(track.client):
            raise SettingsError(f"track.client = {track.client!r}: it is not installed; pip install {track.client}")
        trackers.append(ClientTracker(track.client, run_folder, settings))
    return Trackers(trackers, progress)


def _set_mlflow_environment() -> None:
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow would rather have a database
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def _installed(module: str) -> bool:
    return find_spec(module) is not None


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows
