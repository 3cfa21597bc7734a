from typing import ClassVar

import pytest
import torch

from coterie.config import FitSettings
from coterie.data.batches import augmentation_of
from coterie.data.splits import Splits
from coterie.engine import Resources, TaskContext
from coterie.engine.local import InProcess
from coterie.pipeline.prepare import prepare
from coterie.pipeline.training_task import SpecialistInputs, TrainingTask
from coterie.progress import SILENT, Progress


class Threads(Progress):
    """By how many threads each step was computed."""

    seen: ClassVar[set[int]] = set()

    def advance(self, *_: object) -> None:
        self.seen.add(torch.get_num_threads())


def inputs_of(settings: FitSettings, splits: Splits) -> SpecialistInputs:
    base = prepare(settings, splits=splits).base
    return SpecialistInputs(
        base.network,
        base.head,
        base.part,
        splits.train,
        splits.preprocessing,
        augmentation_of(settings.data, splits),
        settings.hardware,
        data_workers=0,
        balanced=False,
    )


def test_a_specialist_is_trained_by_its_own_number_of_threads_and_the_process_keeps_its_own(
    settings: FitSettings, splits: Splits
) -> None:
    inputs = inputs_of(settings, splits)
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


@pytest.mark.parametrize("trainable", ["all", "stage2"])
def test_frozen_statistics_are_the_bases_and_all_else_is_trained(
    trainable: str, settings: FitSettings, splits: Splits
) -> None:
    values = settings.to_values()
    specialist = {**values["specialist"], "trainable": trainable, "batch_norm": "frozen"}
    settings = FitSettings.from_values({**values, "specialist": specialist})
    inputs = inputs_of(settings, splits)
    task = TrainingTask("specialist", "file", (0, 1, 2), settings.specialist, 0, None, threads=1)
    (outcome,) = InProcess().run([task], inputs, Resources(), lambda _: TaskContext(SILENT))
    before, after = inputs.base.state_dict(), outcome.unwrap().weights
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    scales = [name for name in before if name.startswith("stage3") and before[name].is_floating_point()]
    assert all(not torch.equal(before[name], after[name]) for name in scales if name not in statistics)
