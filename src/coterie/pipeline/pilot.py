"""Before all specialists are trained: a few of them, the pilot, tell whether the others are worth it.

They are the run's own specialists, so that nothing is lost where the run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from coterie.data.flipped import FlippedImages
from coterie.errors import DeclinedError
from coterie.measures.significance import Interval
from coterie.pages.format import gain, percent, points, rough_duration
from coterie.partition import Partition
from coterie.pipeline.base import TrainedBase
from coterie.pipeline.choice import outputs_of
from coterie.pipeline.job import Job
from coterie.pipeline.specialists import Specialists, read_specialist, specialist_tasks, train_tasks
from coterie.pipeline.training_task import TrainingTask
from coterie.pipeline.tuning import forecast_rule
from coterie.routing.forecast import SKILLS, BasePredictions, Outlook, forecast
from coterie.routing.pilot import measured_skill, open_errors, pilot_clusters
from coterie.run.manifest import PilotRecord
from coterie.run.names import specialist_files
from coterie.training.passes import compute_logits

# Where all else that is to be trained takes less than this, a forecast is not worth its passes.
SOON_SECONDS = 120.0


def ask_pilot(job: Job, base: TrainedBase, partitions: Sequence[Partition], asked: float) -> None:
    """Train the pilot, of the partition with the most clusters, and forecast what all its specialists gain.

    Args:
        job: the run.
        base: trained.
        partitions: whose specialists are to be trained.
        asked: the gain that is worth it, as a share of 1.

    Raises:
        DeclinedError: less is forecast.
    """
    partition = max(partitions, key=lambda one: one.n_clusters)
    answers = BasePredictions(base.validation_NC, job.splits.validation.labels_N.numpy())
    rule = forecast_rule(job.settings.gate)
    count_C = np.array(job.splits.train_counts)
    clusters = pilot_clusters(partition, open_errors(answers, partition, rule), count_C)
    files = {specialist_files(partition)[cluster] for cluster in clusters}
    tasks = specialist_tasks(job.settings, partitions)
    pilot = [task for task in tasks if task.file in files]
    others = [task for task in tasks if task.file not in files and not job.run.has(task.file)]
    if not pilot or not others:
        return
    train_tasks(job, base, pilot, {})
    seconds = sum(job.run.manifest.seconds[task.file] for task in pilot)
    left = seconds * _n_samples(others, count_C) / _n_samples(pilot, count_C)
    if left < SOON_SECONDS:
        return
    networks = [
        read_specialist(job, base, partition, cluster) if cluster in clusters else None
        for cluster in range(partition.n_clusters)
    ]
    outputs = outputs_of(job, base, Specialists(partition, networks), "validation")
    skill = measured_skill(outputs, partition, clusters, rule, SKILLS[rule])
    hope = forecast(answers, Outlook.of(answers, partition), rule, skill)
    job.run.update(
        pilot=PilotRecord(
            clusters=clusters, skill=skill.mean, spread=skill.spread, gain=hope.gain, low=hope.low, high=hope.high
        )
    )
    said = (
        f"forecast: {gain(Interval(hope.gain, hope.low, hope.high))} by all specialists, from a pilot of {len(pilot)} "
        f"({percent(seconds / (seconds + left), 0)} of their training, {rough_duration(seconds)}), which put right "
        f"{percent(skill.mean, 0)} of the errors open to it, net"
    )
    if hope.gain >= asked:
        job.progress.note(f"{said}; the others take about {rough_duration(left)}")
        return
    raise DeclinedError(
        f"{said}. That is less than the {100 * asked:.2g} points that --gain asks for, so the others, about "
        f"{rough_duration(left)}, are not trained. {_free_rival(job, base)}The base and the pilot are kept; the same "
        "command goes on with --anyway"
    )


def _n_samples(tasks: Sequence[TrainingTask], count_C: np.ndarray) -> int:
    """Training samples of the tasks' classes."""
    return sum(int(count_C[list(task.classes)].sum()) for task in tasks)


def _free_rival(job: Job, base: TrainedBase) -> str:
    """What mirrored images gain on validation, where a mirror keeps the class: it takes no training."""
    if not job.splits.flip:
        return ""
    samples, label_N = FlippedImages(job.splits.validation.samples), job.splits.validation.labels_N.numpy()
    flipped_NC = compute_logits(job.fabric, base.network, samples, job.splits.preprocessing)
    both_N = (softmax(base.validation_NC, axis=1) + softmax(flipped_NC, axis=1)).argmax(axis=1) == label_N
    gained = float(both_N.mean() - (base.validation_NC.argmax(axis=1) == label_N).mean())
    return f"Asked for the mirror image too, the base gains {points(gained)} points, without any training. "
