"""Engines that do the independent tasks of a run: this process, workers beside it, or a Ray cluster.

A ``Task`` holds all that decides its result, so who does it, where, and in what order changes nothing. Tasks of a list
share one value, which each process or node is given once. Results, progress and checkpoints come back to the process
that asked, and only that one writes to the run folder.
"""

from coterie.engine.choose import check_engine, make_engine
from coterie.engine.task import Engine, Outcome, Resources, Task, TaskContext

__all__ = [
    "Engine",
    "Outcome",
    "Resources",
    "Task",
    "TaskContext",
    "check_engine",
    "make_engine",
]
