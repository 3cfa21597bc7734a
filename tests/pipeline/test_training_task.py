from typing import ClassVar

import torch

from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.engine import Resources, TaskContext
from coterie.engine.local import InProcess
from coterie.pipeline.prepare import augmentation_of, prepare
from coterie.pipeline.training_task import SpecialistInputs, TrainingTask
from coterie.progress import Progress


class Threads(Progress):
    """By how many threads each step was computed."""

    seen: ClassVar[set[int]] = set()

    def advance(self, *_: object) -> None:
        self.seen.add(torch.get_num_threads())


def test_a_specialist_is_trained_by_its_own_number_of_threads_and_the_process_keeps_its_own(
    settings: FitSettings, splits: Splits
) -> None:
    base = prepare(settings, splits=splits).base
    inputs = SpecialistInputs(
        base.network,
        base.head,
        base.part,
        splits.train,
        splits.preprocessing,
        augmentation_of(settings, splits),
        settings.hardware,
        data_workers=0,
        balanced=False,
    )
    task = TrainingTask("specialist", "file", (0, 1), settings.specialist, 0, None, threads=1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (outcome,) = InProcess().run([task], inputs, Resources(), lambda _: TaskContext(Threads()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(outcome.unwrap().history) == settings.specialist.epochs
    assert Threads.seen == {1}
