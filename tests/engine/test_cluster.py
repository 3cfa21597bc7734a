"""Ray: a cluster of three nodes on this machine, bound to the loopback address, which ends with the tests."""

import os
import shutil
import socket
import threading
import warnings
from contextlib import closing
from pathlib import Path

import pytest
import torch

import coterie
from coterie.backbones import build
from coterie.config import EngineSettings, FitSettings
from coterie.data.splits import Splits
from coterie.engine import Resources, TaskContext, cluster
from coterie.engine.cluster import RayCluster
from coterie.errors import EngineError, LimitError, PartitionError
from coterie.pipeline.runs import FitTask, fit_all
from coterie.progress import Progress
from coterie.run.folder import Run
from coterie.studies.comparison.study import compare_run
from engine_tasks import InSpecialists, Recorder, Square
from helpers import ROOT, changed, weights

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # as the engine sets it: the loopback address only
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's spelling. As fast as what it is compared with


def test_without_ray_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"not installed: pip install 'coterie\[ray\]'"):
        RayCluster(None)


@pytest.mark.parametrize("address", [None, "127.0.0.1:1", "10.0.0.1:1"])
def test_only_connecting_sets_the_environment(address: str | None, monkeypatch) -> None:
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    before = dict(os.environ)
    RayCluster(address)
    assert dict(os.environ) == before
    cluster.set_ray_environment(address)
    assert ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in os.environ) == (address != "10.0.0.1:1")
    assert ("RAY_USAGE_STATS_ENABLED" in os.environ) == (address is None)
    before = dict(os.environ)
    cluster.set_ray_environment("10.0.0.1:1")
    assert dict(os.environ) == before


@pytest.mark.parametrize("kind", ["refused", "silent", "something else"])
def test_an_address_where_no_cluster_answers_is_an_error_soon(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS_TO_ANSWER", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if kind == "refused":
            server.close()
        elif kind == "something else":
            threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n")).start()
        with pytest.raises(EngineError, match=f"no Ray cluster answers at {address}"):
            cluster._check_address(address)
    with pytest.raises(EngineError, match="'nowhere': must be HOST:PORT"):
        cluster._check_address("nowhere")


def test_a_missing_cluster_is_found_before_the_base_is_trained(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(EngineError, match=f"no Ray cluster answers at {address}"):
        coterie.fit(settings, tmp_path / "run", splits=splits, engine=EngineSettings(engine="ray", address=address))
    assert not (tmp_path / "run" / "base.safetensors").exists()


ray_or_skip = pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def three_nodes():
    # Where workers find the tasks that are made up here.
    paths = [str(ROOT / "tests"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        class PatientCluster(Cluster):
            def _wait_for_node(self, node, timeout: float = 600) -> None:  # Ray's own gives up after 30 seconds
                super()._wait_for_node(node, timeout)

        nodes = PatientCluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            for _ in range(2):
                nodes.add_node(num_cpus=1)
            yield nodes
        finally:
            ray_or_skip.shutdown()
            nodes.shutdown()


def outcomes(address: str, tasks, contexts, resources: Resources = Resources()):  # noqa: B008 - frozen
    engine = RayCluster(address)
    with closing(
        engine.run(tasks, 1, resources, lambda number: TaskContext(contexts[number], contexts[number]))
    ) as found:
        return {outcome.number: outcome for outcome in found}


def test_tasks_end_with_results_or_errors(three_nodes) -> None:
    tasks = [Square(1), Square(2, "error"), Square(3), Square(4, "fault")]
    contexts = [Recorder() for _ in tasks]
    found = outcomes(three_nodes.address, tasks, contexts)
    assert [found[number].unwrap() for number in (0, 2)] == [2, 10]
    with pytest.raises(coterie.CoterieError, match="square: the loss became nan"):
        found[1].unwrap()
    with pytest.raises(EngineError, match="ZeroDivisionError: what a fault says"):
        found[3].unwrap()
    assert contexts[2].calls == [("square", 2), (2, 10)]
    assert int(contexts[2].state["found"]) == 3


def test_a_lost_worker_costs_its_task_only_which_goes_on_from_its_last_state(three_nodes) -> None:
    contexts = [Recorder(), Recorder()]
    found = outcomes(three_nodes.address, [Square(7, "death"), Square(1)], contexts)
    assert found[0].unwrap() == 7  # what it finds in its state, instead of dying again
    assert found[1].unwrap() == 2


def test_other_versions_are_refused_with_both(three_nodes, monkeypatch) -> None:
    monkeypatch.setattr(cluster, "versions_here", lambda: {"coterie": "9.9.9", "torch": "1.0"})
    with pytest.raises(
        EngineError, match=rf"has coterie {coterie.__version__} instead of 9.9.9, torch 2\S+ instead of"
    ):
        outcomes(three_nodes.address, [Square(1)], [Recorder()])


def test_a_demand_that_no_node_meets_is_refused(three_nodes) -> None:
    with pytest.raises(EngineError, match="no node of the cluster is large enough for a task of 1 CPU, 3 GPU"):
        outcomes(three_nodes.address, [Square(1)], [Recorder()], Resources(gpus=3))


def test_whole_runs_are_tasks_of_a_cluster(three_nodes, tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    coterie.fit(settings, tmp_path / "first", splits=splits)
    nine = changed(settings, partition={"clusters": [9]})
    tasks = [
        FitTask("nine", nine, tmp_path / "study/nine", tmp_path / "first"),
        FitTask("again", settings, tmp_path / "study/again", tmp_path / "first"),
    ]
    engine = EngineSettings(engine="ray", address=three_nodes.address)
    failed, done = fit_all(tasks, splits, engine)
    with pytest.raises(PartitionError, match="9 clusters of 8 classes"):
        failed.unwrap()
    assert weights(done.unwrap()) == weights(tmp_path / "first")


def test_initial_weights_reach_a_worker_of_a_cluster(
    three_nodes, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    """The rate is so small that training leaves them."""
    theirs = build("convnet-8", 5, splits.preprocessing, seed=9).state_dict()
    torch.save(theirs, tmp_path / "w.pt")
    still = {"epochs": 1, "batch_size": 64, "learning_rate": 1e-9}
    ours = changed(settings, init=str(tmp_path / "w.pt"), base=still, specialist=still)
    [outcome] = fit_all(
        [FitTask("tuned", ours, tmp_path / "tuned")], splits, EngineSettings(engine="ray", address=three_nodes.address)
    )
    run, first = Run.open_complete(outcome.unwrap()), next(iter(theirs))
    torch.testing.assert_close(run.read_tensors("base.safetensors")[first], theirs[first], atol=1e-6, rtol=0)
    assert run.manifest.network.origin.startswith("initial weights: 56 of 58 tensors")


def test_controls_are_tasks_of_a_cluster(three_nodes, tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    coterie.fit(settings, tmp_path / "run", splits=splits)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    local, ray = EngineSettings(workers=1), EngineSettings(engine="ray", address=three_nodes.address)
    for name, engine in (("run", local), ("copy", ray)):
        compare_run(Run.open_complete(tmp_path / name), splits, members=1, engine=engine)
    assert weights(tmp_path / "copy" / "controls") == weights(tmp_path / "run" / "controls")


def test_a_limit_ends_the_tasks_of_a_cluster_and_the_next_start_ends_with_the_same_bits(
    three_nodes, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    engine, cut = EngineSettings(engine="ray", address=three_nodes.address), tmp_path / "cut"
    coterie.fit(settings, tmp_path / "whole", splits=splits)
    with pytest.raises(LimitError):
        coterie.fit(settings, cut, splits=splits, engine=engine, limits=InSpecialists(cut))
    assert any((cut / "checkpoint" / "specialists").rglob("*.safetensors"))
    coterie.fit(settings, cut, splits=splits, engine=engine)
    assert weights(cut) == weights(tmp_path / "whole")


class Killing(Progress):
    """Kills a node of the cluster once, when three specialists are under way: one of them on that node."""

    def __init__(self, nodes) -> None:
        self.nodes, self.notes, self.left = nodes, [], {}

    def lane(self) -> Progress:
        return KillingLane(self)

    def left_of(self, title: str, steps: int) -> None:
        self.left[title] = steps
        if sum(steps > 0 for steps in self.left.values()) == 3 and len(self.nodes.worker_nodes) == 2:
            self.nodes.remove_node(next(iter(self.nodes.worker_nodes)), allow_graceful=False)

    def note(self, text: str) -> None:
        self.notes.append(text)


class KillingLane(Progress):
    def __init__(self, killing: Killing) -> None:
        self.killing, self.note = killing, killing.note

    def stage(self, title: str, steps: int) -> None:
        self.title, self.left = title, steps

    def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
        self.left -= steps
        self.killing.left_of(self.title, self.left)


def test_five_specialists_arrive_as_the_local_engine_makes_them_though_a_node_dies(
    three_nodes, tmp_path, settings: FitSettings
) -> None:
    from helpers import make_splits

    splits: Splits = make_splits(n_classes=10)
    specialist = {
        **settings.specialist.model_dump(),
        "epochs": 60,
    }  # so long that none ends between its last word and the kill
    five = changed(settings, partition={"method": "balanced", "clusters": [5], "max_size": 2}, specialist=specialist)
    coterie.fit(five, tmp_path / "local", splits=splits)
    progress = Killing(three_nodes)
    ray = EngineSettings(engine="ray", address=three_nodes.address)
    coterie.fit(five, tmp_path / "ray", splits=splits, engine=ray, progress=progress)
    assert len(three_nodes.worker_nodes) == 1
    made = weights(tmp_path / "ray")
    assert len([name for name in made if name.startswith("specialists/")]) == 5
    assert made == weights(tmp_path / "local")
    for name in ("metrics.json", "history.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert any("its worker was lost" in note for note in progress.notes)
