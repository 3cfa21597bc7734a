import socket

import pytest

from coterie.config import EngineSettings
from coterie.engine import Resources, check_engine, cluster, make_engine
from coterie.engine.cluster import RayCluster
from coterie.engine.local import InProcess, LocalWorkers
from coterie.errors import EngineError, SettingsError

LONG = Resources(seconds=1000)


def test_settings_of_the_engine_are_checked() -> None:
    with pytest.raises(SettingsError, match="workers = 0"):
        EngineSettings(workers=0)
    with pytest.raises(SettingsError, match="address = 'a:1' needs engine = 'ray'"):
        EngineSettings(address="a:1")
    with pytest.raises(SettingsError, match="workers = 2 needs engine = 'local'"):
        EngineSettings(engine="ray", workers=2)


@pytest.mark.parametrize(
    ("workers", "n_tasks", "resources", "kind"),
    [
        (None, 9, Resources(seconds=3), InProcess),  # done before a worker has started
        (3, 0, LONG, InProcess),
        (3, 1, LONG, InProcess),
        (1, 9, LONG, InProcess),
        (3, 2, LONG, LocalWorkers),
    ],
)
def test_workers_are_started_where_they_save_time(workers, n_tasks: int, resources: Resources, kind: type) -> None:
    assert type(make_engine(EngineSettings(workers=workers), n_tasks, resources)) is kind


def test_a_cluster_does_one_task_too_but_none_is_connected_for_nothing(monkeypatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    settings = EngineSettings(engine="ray")
    assert isinstance(make_engine(settings, 1, LONG), RayCluster)
    assert isinstance(make_engine(settings, 0, LONG), InProcess)


def test_an_engine_that_cannot_take_tasks_is_refused_at_once(monkeypatch) -> None:
    check_engine(EngineSettings())
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="needs Ray, which is not installed"):
        check_engine(EngineSettings(engine="ray"))
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    check_engine(EngineSettings(engine="ray"))  # a cluster of its own, started when it is needed
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(EngineError, match=f"no Ray cluster answers at {address}"):
        check_engine(EngineSettings(engine="ray", address=address))
