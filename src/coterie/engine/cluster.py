"""The engine of many machines: a Ray cluster.

Ray's object store holds what tasks share, once a node. Progress and states come back through an actor beside the
driver, so that the driver's run folder has all of a run; a task whose worker or node is lost goes on elsewhere from its
last state there.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typing_extensions import override

import coterie
from coterie.engine.messages import Message, Result, failure_of, run_remotely, state_of
from coterie.engine.payload import SharedPayload
from coterie.engine.task import Engine, Outcome, Resources, ResultT, SharedT, Task, TaskContext
from coterie.errors import EngineError

# A task is lost with its worker or node. One that is lost this often takes them down itself, by its memory mostly.
TRIES = 4
SECONDS_PER_LOOK = 1.0
SECONDS_TO_ANSWER = 10.0
SECONDS_TO_TELL_VERSIONS = 300.0
# What an HTTP/2 client says first (RFC 9113, 3.4), with an empty SETTINGS frame; a server answers with its own.
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HTTP2_SETTINGS, HTTP2_FRAME_HEAD = 4, 9


class RayCluster(Engine):
    """Tasks on a running cluster, or on one that is started on this machine and ends with them.

    Args:
        address: HOST:PORT of a running cluster.

    Raises:
        EngineError: Ray is not installed.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address
        if find_spec("ray") is None:
            raise EngineError("engine ray needs Ray, which is not installed: pip install 'coterie[ray]'")

    def check(self) -> None:
        """Whether somebody answers at the address, where there is one that the program is not yet connected to.

        Raises:
            EngineError: nobody does.
        """
        # Ray is not imported for this: it reads its environment variables when it is, and they are not set yet.
        loaded = sys.modules.get("ray")
        if self.address is not None and not (loaded and loaded.is_initialized()):
            _check_address(self.address)

    @override
    def run(
        self,
        tasks: Sequence[Task[SharedT, ResultT]],
        shared: SharedT,
        resources: Resources,
        context_of: Callable[[int], TaskContext],
    ) -> Generator[Outcome[ResultT], None, None]:
        set_ray_environment(self.address)
        ray: Any = import_module("ray")
        with _connected(ray, self.address):
            _check_nodes(ray, resources)
            with _Submitted(ray, tasks, shared, resources, context_of) as submitted:
                while submitted.pending:
                    ended = submitted.wait()
                    # Messages first: a task that has ended may have left its last state among them.
                    submitted.deliver_messages()
                    for reference in ended:
                        outcome = submitted.outcome(reference)
                        if outcome is not None:
                            yield outcome


class _Submitted:
    """The tasks of one list on a cluster. Those that have not ended are cancelled at the end of the ``with``."""

    def __init__(
        self,
        ray: Any,
        tasks: Sequence[Task[Any, Any]],
        shared: object,
        resources: Resources,
        context_of: Callable[[int], TaskContext],
    ) -> None:
        self.ray = ray
        self.tasks = tasks
        self.context_of = context_of
        # Beside the driver, so that what has been sent survives the loss of every other node.
        here = _on_node(ray, ray.get_runtime_context().get_node_id())
        self.mailbox = ray.remote(num_cpus=0)(_mailbox_class()).options(scheduling_strategy=here).remote()
        # Ray's own retries would start a task from its beginning, not from its last state.
        self.work = ray.remote(
            num_cpus=resources.threads, num_gpus=resources.gpus, memory=resources.memory_bytes, max_retries=0
        )(_work)
        self.payload = ray.put(SharedPayload.pack(shared))
        self.contexts: dict[int, TaskContext] = {}
        self.tries = [0] * len(tasks)
        self.pending: dict[Any, int] = {}

    def __enter__(self) -> _Submitted:
        for number in range(len(self.tasks)):
            self._submit(number)
        return self

    def __exit__(self, *error: object) -> None:
        for reference in self.pending:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.cancel(reference, force=True)
        self.ray.kill(self.mailbox)

    def wait(self) -> list[Any]:
        """References of tasks that have ended; none where none has within a second."""
        ended, _ = self.ray.wait(list(self.pending), timeout=SECONDS_PER_LOOK)
        return list(ended)

    def deliver_messages(self) -> None:
        """Make the calls that tasks have sent, in their contexts."""
        for number, attempt, message in self.ray.get(self.mailbox.take.remote()):
            if attempt == self.tries[number]:  # one that was taken for lost may still be sending
                pickle.loads(message).deliver(self.contexts[number])

    def outcome(self, reference: Any) -> Outcome[Any] | None:
        """How a task has ended; None if its worker was lost and it has been submitted again."""
        number = self.pending.pop(reference)
        title = self.tasks[number].title
        try:
            answer = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # not by the task, whose errors are values
            answer = EngineError(f"{title}: a node cannot read the task: {str(error).splitlines()[-1]}")
        except self.ray.exceptions.RayError as error:
            loss = f"{title}: its worker was lost ({type(error).__name__})"
            if self.tries[number] < TRIES:
                self.contexts[number].progress.note(f"{loss}; it goes on elsewhere from its last state")
                self._submit(number)
                return None
            answer = EngineError(f"{loss}, as in {TRIES - 1} tries before")
        return Outcome(number, answer.value) if isinstance(answer, Result) else Outcome(number, error=answer)

    def _submit(self, number: int) -> None:
        context = self.contexts[number] = self.contexts.get(number) or self.context_of(number)
        self.tries[number] += 1
        sender = (number, self.tries[number])
        reference = self.work.remote(
            self.tasks[number], self.payload, state_of(context), self.mailbox, sender, str(Path.cwd())
        )
        self.pending[reference] = number


def _mailbox_class() -> type:
    """The actor that messages go through, as bytes. A class in a function travels as code, so that the actor is there
    at once, without an import of coterie and of torch.
    """

    class Mailbox:
        def __init__(self) -> None:
            self.waiting: list[tuple[int, int, bytes]] = []

        def put(self, number: int, attempt: int, message: bytes) -> None:
            self.waiting.append((number, attempt, message))

        def take(self) -> list[tuple[int, int, bytes]]:
            taken, self.waiting = self.waiting, []
            return taken

    return Mailbox


def _work(
    task: Task[Any, Any],
    payload: SharedPayload,
    state: bytes | None,
    mailbox: Any,
    sender: tuple[int, int],
    folder: str,
) -> Any:
    """Run a task in a worker of the cluster.

    Args:
        task: what to do.
        payload: what its list shares.
        state: from which it goes on.
        mailbox: takes messages to the driver.
        sender: the task's number, and the number of this try.
        folder: the driver's working folder.

    Returns:
        A Result, or an error as a value: one that is raised would come back without its class.
    """
    if Path(folder).is_dir():  # relative paths then mean what they mean to the driver
        os.chdir(folder)
    sent: list[Any] = []

    def wait_for_sent() -> None:
        """Not by ``ray.get``, with which a task lends its CPU out: Ray would start another task beside it."""
        for reference in sent:
            reference.future().result()

    def send(message: Message) -> None:
        sent[:] = [mailbox.put.remote(*sender, pickle.dumps(message, protocol=5))]
        if message.method == "save":  # a state counts once it has left this worker, which may die at the next step
            wait_for_sent()

    try:
        answer: object = Result(run_remotely(task, payload.unpack(), state, send))
    except Exception as error:
        answer = failure_of(task.title, error)
    wait_for_sent()  # messages arrive in order: the last one is there, so all are
    return answer


def set_ray_environment(address: str | None) -> None:
    """Set the environment variables that Ray reads when it is imported and when it starts a cluster; those that are
    set already stay.
    """
    # A cluster of this machine alone is for this machine alone: by this, Ray binds to the loopback address.
    if address is None or address.startswith(("127.", "localhost")):
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # its workers would yield to all else


@contextlib.contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """A connection to the cluster; one that the program has already is used and left open.

    Raises:
        EngineError: nobody answers at the address, or a Ray of another version.
    """
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _check_address(address)
    on_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (RuntimeError, ConnectionError, SystemExit) as error:
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        raise EngineError(f"cannot connect to {where}: {error}") from None
    finally:
        if on_main_thread:
            signal.signal(signal.SIGTERM, before)  # Ray's own would end the process before it has cleaned up
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Left to itself, Ray tries for two minutes and then ends the process.

    Raises:
        EngineError: not HOST:PORT, or nobody there answers as Ray's server (gRPC, so HTTP/2) does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(f"address {address!r}: must be HOST:PORT, as `ray start --head` prints it")
    try:
        with socket.create_connection((host, int(port)), SECONDS_TO_ANSWER / 2) as line:
            line.settimeout(SECONDS_TO_ANSWER / 2)
            line.sendall(HTTP2_HELLO)
            answer = line.recv(HTTP2_FRAME_HEAD)
    except (OSError, OverflowError) as error:
        raise EngineError(f"no Ray cluster answers at {address}: {error or 'no answer'}") from None
    if len(answer) < HTTP2_FRAME_HEAD or answer[3] != HTTP2_SETTINGS:
        raise EngineError(f"no Ray cluster answers at {address}: what listens there is something else")


def _check_nodes(ray: Any, resources: Resources) -> None:
    """Every node has the driver's versions, and one at least is large enough for a task.

    Raises:
        EngineError: they are not; each node is named, with both versions.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    needs = {"CPU": resources.threads, "GPU": resources.gpus, "memory": resources.memory_bytes}
    if not any(all(node["Resources"].get(kind, 0) >= need for kind, need in needs.items()) for node in nodes):
        have = "; ".join(", ".join(f"{node['Resources'].get(kind, 0):.0f} {kind}" for kind in needs) for node in nodes)
        raise EngineError(
            f"no node of the cluster is large enough for a task of {resources.threads} CPU, {resources.gpus} GPU, "
            f"{resources.memory_bytes} bytes of memory; they have {have}"
        )

    def versions() -> dict[str, str]:  # a function in a function travels as code: coterie may not be there
        from importlib.metadata import PackageNotFoundError, version

        try:
            import coterie

            found = {"coterie": coterie.__version__}
        except ImportError:
            found = {"coterie": "none"}
        try:
            return {**found, "torch": version("torch")}
        except PackageNotFoundError:
            return {**found, "torch": "none"}

    ask = ray.remote(num_cpus=0, max_retries=0)(versions)
    asked = [ask.options(scheduling_strategy=_on_node(ray, node["NodeID"])).remote() for node in nodes]
    here = versions_here()
    wrong = []
    for node, reference in zip(nodes, asked, strict=True):
        try:
            there = ray.get(reference, timeout=SECONDS_TO_TELL_VERSIONS)
        except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
            continue  # it went away meanwhile; the others do its share
        except ray.exceptions.RayError as error:
            raise EngineError(f"node {node['NodeManagerAddress']} does not answer: {type(error).__name__}") from None
        other = [f"{name} {there[name]} instead of {here[name]}" for name in here if there[name] != here[name]]
        if other:
            wrong.append(f"node {node['NodeManagerAddress']} has {', '.join(other)}")
    if wrong:
        raise EngineError("; ".join(wrong[:8]) + ". Install the same versions on all nodes")


def versions_here() -> dict[str, str]:
    """Versions that must be the same on all nodes."""
    return {"coterie": coterie.__version__, "torch": version("torch")}


def _on_node(ray: Any, node: str) -> Any:
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
