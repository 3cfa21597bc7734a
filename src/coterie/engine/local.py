"""The engine of one machine: this process, or several workers beside it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import torch
from typing_extensions import override

from coterie.engine.task import Demand, Desk, Engine, Outcome, ResultT, SharedT, Task


class InProcess(Engine):
    """One task after another, in this process. An error ends the list."""

    @override
    def run(
        self,
        tasks: Sequence[Task[SharedT, ResultT]],
        shared: SharedT,
        demand: Demand,
        desk_of: Callable[[int], Desk],
    ) -> Generator[Outcome[ResultT], None, None]:
        for number, task in enumerate(tasks):
            threads = torch.get_num_threads()
            try:
                yield Outcome(number, task.run(shared, desk_of(number)))
            finally:
                torch.set_num_threads(threads)
