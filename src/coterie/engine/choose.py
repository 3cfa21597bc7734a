"""The engine that settings ask for."""

from __future__ import annotations

from coterie.config import EngineSettings
from coterie.engine.cluster import RayCluster
from coterie.engine.local import InProcess, LocalWorkers, auto_workers
from coterie.engine.task import Engine, Resources


def check_engine(settings: EngineSettings) -> None:
    """Refuse, before any other work, an engine that cannot take a task.

    Raises:
        EngineError: Ray is not installed, or does not answer.
    """
    if settings.engine == "ray":
        RayCluster(settings.address).check()


def make_engine(settings: EngineSettings, n_tasks: int, resources: Resources) -> Engine:
    """The engine for a list of tasks.

    Args:
        settings: which engine.
        n_tasks: length of the list.
        resources: of each task.

    Raises:
        EngineError: Ray is not installed, does not answer, or runs other versions.
    """
    if settings.engine == "ray" and n_tasks:
        return RayCluster(settings.address)
    workers = settings.workers or auto_workers(n_tasks, resources)
    return InProcess() if min(workers, n_tasks) < 2 else LocalWorkers(workers)
