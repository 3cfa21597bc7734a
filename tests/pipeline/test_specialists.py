"""The trainings of specialists: of one partition, of several side by side, and anew."""

import dataclasses

import pytest

from coterie.config import FitSettings
from coterie.partition import Partition
from coterie.pipeline.specialists import specialist_tasks

FIRST = Partition.from_assignment([0, 0, 1, 1, 2, 2, 2, 3])
SECOND = Partition.from_assignment([0, 1, 0, 1, 0, 1, 0, 1])


def test_a_cluster_of_one_class_needs_no_specialist(settings: FitSettings) -> None:
    tasks = specialist_tasks(settings, [FIRST])
    assert [task.classes for task in tasks] == [(0, 1), (2, 3), (4, 5, 6)]
    assert [task.file for task in tasks] == [f"specialists/4/{k}.safetensors" for k in range(3)]


def test_partitions_side_by_side_are_trained_as_each_alone(settings: FitSettings) -> None:
    """So that a specialist which is trained again has the seed that it had."""
    alone = specialist_tasks(settings, [FIRST, SECOND])
    assert specialist_tasks(settings, [Partition.stack([FIRST, SECOND])]) == alone
    assert [task.seed - settings.seed for task in alone] == [1, 2, 3, 1, 2]


def test_everything_that_decides_a_training_is_in_its_task(settings: FitSettings) -> None:
    task = specialist_tasks(settings, [FIRST])[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.seed = 3  # type: ignore[misc]  # that it cannot be set is the test
    assert task.training == settings.specialist
    assert task.threads == settings.hardware.specialist_threads
