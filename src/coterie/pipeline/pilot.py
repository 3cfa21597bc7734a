"""Before all specialists are trained: a few of them, the pilot, tell whether the others are worth it.

They are the run's own specialists, so that nothing is lost where the run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from coterie.arrays import FloatArray, IntArray
from coterie.backbones.base import make_base
from coterie.backbones.by_name import is_passed
from coterie.config.defaults import trains_gently
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
from coterie.routing.calibration import temperature
from coterie.routing.forecast import SKILLS, BasePredictions, Forecast, Outlook, Skill, forecast, routable
from coterie.routing.pilot import LEAST_SAMPLES, measured_skill, open_errors, pilot_clusters
from coterie.run.manifest import PilotRecord
from coterie.run.names import specialist_files
from coterie.run.values import pass_cost_of
from coterie.system.units import how_many
from coterie.training.linear_probe import ClassNames, can_be_probed, fit_probe
from coterie.training.passes import compute_logits

# Where all else that is to be trained takes less than this, a forecast is not worth its passes.
SOON_SECONDS = 120.0
# Of a network of a library that came trained: what it was fine-tuned from is not known here.
PROBE_OF_ANOTHER = (
    "What has helped fine-tuned networks is to ask them as they were before: --recipe probe, with --init pretrained or "
    "FILE, the weights that the fine-tuning started from, and another --out. "
)


@dataclass(frozen=True, eq=False)
class _Pilot:
    """The clusters of a partition whose specialists are trained first, by which tasks, and the tasks that are left;
    ``beside``: other partitions whose specialists are asked beside this one's.
    """

    partition: Partition
    beside: tuple[Partition, ...]
    answers: BasePredictions
    clusters: tuple[int, ...]
    tasks: list[TrainingTask]
    left: list[TrainingTask]

    @classmethod
    def choose(cls, job: Job, base: TrainedBase, partitions: Sequence[Partition]) -> _Pilot:
        """Of the partition with the most clusters."""
        partition = max(partitions, key=lambda one: one.n_clusters)
        together = job.settings.partition.together
        beside = tuple(other for other in partitions if together and other is not partition)
        answers = BasePredictions(base.validation_NC, job.splits.validation.labels_N.numpy())
        open_S = open_errors(answers, partition, forecast_rule(job.settings.gate))
        clusters = pilot_clusters(partition, open_S, np.array(job.splits.train_counts))
        files = {specialist_files(partition)[cluster] for cluster in clusters}
        tasks = specialist_tasks(job.settings, partitions)
        left = [task for task in tasks if task.file not in files and not job.run.has(task.file)]
        return cls(partition, beside, answers, clusters, [task for task in tasks if task.file in files], left)

    def seconds(self, job: Job) -> tuple[float, float]:
        """Of its own training, which is done, and about of what is left."""
        own = sum(job.run.manifest.seconds[task.file] for task in self.tasks)
        count_C = np.array(job.splits.train_counts)
        n_samples, n_left = (
            sum(int(count_C[list(task.classes)].sum()) for task in tasks) for tasks in (self.tasks, self.left)
        )
        return own, own * n_left / n_samples

    def forecast(self, job: Job, base: TrainedBase) -> tuple[Skill, Forecast]:
        """The skill of its specialists on validation, and what all would gain with it."""
        networks = [
            read_specialist(job, base, self.partition, cluster) if cluster in self.clusters else None
            for cluster in range(self.partition.n_clusters)
        ]
        outputs = outputs_of(job, base, Specialists(self.partition, networks), "validation", "pilot")
        rule = forecast_rule(job.settings.gate)
        skill = measured_skill(outputs, self.partition, self.clusters, rule, SKILLS[rule])
        outlook, *beside = (Outlook.of(self.answers, partition) for partition in (self.partition, *self.beside))
        gate = job.settings.gate
        # Each to a specialist of every partition.
        each = (1 + len(beside)) * pass_cost_of(job.run.manifest)
        most_routed = routable(gate.passes, gate.routed, each)
        return skill, forecast(self.answers, outlook, rule, skill, beside, most_routed)


def ask_pilot(job: Job, base: TrainedBase, partitions: Sequence[Partition], asked: float) -> None:
    """Train the pilot, and say what it foretells of all specialists.

    Args:
        job: the run.
        base: trained.
        partitions: whose specialists are to be trained.
        asked: the gain that is worth it, as a share of 1.

    Raises:
        DeclinedError: less is forecast.
    """
    pilot = _Pilot.choose(job, base, partitions)
    if not pilot.tasks or not pilot.left:
        return
    train_tasks(job, base, pilot.tasks, {})
    seconds, left = pilot.seconds(job)
    if left < SOON_SECONDS:
        return
    skill, hope = pilot.forecast(job, base)
    if not skill.measured:
        job.progress.note(
            f"validation is too small to judge a pilot by: of its {how_many(len(job.splits.validation), 'sample')} "
            f"fewer than {LEAST_SAMPLES} are of the pilot's clusters. So nothing is forecast, and the others are "
            f"trained; they take about {rough_duration(left)}"
        )
        return
    figures = {"gain": hope.gain, "low": hope.low, "high": hope.high}
    job.run.update(pilot=PilotRecord(clusters=pilot.clusters, skill=skill.mean, spread=skill.spread, **figures))
    said = (
        f"forecast: {gain(Interval(hope.gain, hope.low, hope.high))} by all specialists, from a pilot of "
        f"{len(pilot.tasks)} ({percent(seconds / (seconds + left), 0)} of their training, {rough_duration(seconds)}); "
        f"of the errors open to them they put right {percent(skill.mean, 0)}, net"
    )
    if hope.gain >= asked:
        job.progress.note(f"{said}; the others take about {rough_duration(left)}")
        return
    instead = _mirrored(job, base) + _probed(job, base)
    raise DeclinedError(
        f"{said}. That is less than the {100 * asked:.2g} points that --gain asks for, so the others, about "
        f"{rough_duration(left)}, are not trained. {instead}The base and the pilot are "
        "kept; the same command goes on with --anyway"
    )


def _mirrored(job: Job, base: TrainedBase) -> str:
    """What mirrored images gain on validation, where a mirror keeps the class: it takes no training."""
    if not job.splits.flip:
        return ""
    samples, label_N = FlippedImages(job.splits.validation.samples), job.splits.validation.labels_N.numpy()
    flipped_NC = compute_logits(job.fabric, base.network, samples, job.splits.preprocessing)
    gained = _gained(base.validation_NC, flipped_NC, label_N)
    return f"Asked for the mirror image too, the base gains {points(gained)} points, without any training. "


def _probed(job: Job, base: TrainedBase) -> str:
    """What a probe gains on validation: of the network as it was before it was fine-tuned."""
    if is_passed(job.settings.backbone) or not can_be_probed(base.network, base.head):
        return ""
    if job.settings.init is None:
        return PROBE_OF_ANOTHER if job.prepared.base.trained and trains_gently(job.settings.given()) else ""
    splits = job.splits
    network = make_base(job.settings.before_training(), splits.labels, splits.preprocessing).network
    label_N = splits.validation.labels_N
    names = ClassNames(splits.labels.texts(), splits.validation) if splits.preprocessing.modality == "text" else None
    fit_probe(job.fabric, network, base.head, splits.train, splits.preprocessing, names=names)
    probed_NC = compute_logits(job.fabric, network, splits.validation.samples, splits.preprocessing)
    base_NC, other_NC = (
        logits_NC / temperature(logits_NC, label_N.numpy()) for logits_NC in (base.validation_NC, probed_NC)
    )
    gained = _gained(base_NC, other_NC, label_N.numpy())
    return (
        f"A probe of the weights that it started from adds {points(gained)} points on "
        "validation, for a pass more and next to no training: --recipe probe, with --base and another --out. "
    )


def _gained(base_NC: FloatArray, other_NC: FloatArray, label_N: IntArray) -> float:
    """Of the mean of two answers over the first."""
    both_N = (softmax(base_NC, axis=1) + softmax(other_NC, axis=1)).argmax(axis=1) == label_N
    return float(both_N.mean() - (base_NC.argmax(axis=1) == label_N).mean())
