"""The fourth stage: a rule for each partition by its validation logits, and the partition that does best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coterie.data.splits import Split
from coterie.ensemble.panel import Panel
from coterie.pipeline.base import TrainedBase
from coterie.pipeline.job import Job
from coterie.pipeline.specialists import Specialists
from coterie.pipeline.tuning import tuning_request
from coterie.routing.evaluation import Outputs
from coterie.routing.tune import Tuning, tune
from coterie.run.names import BASE_FILE, specialist_files
from coterie.run.values import pass_cost_of
from coterie.training.passes import n_batches
from coterie.vocabulary import SplitName


@dataclass(frozen=True, eq=False)
class Tuned:
    """The specialists of a partition, their outputs on validation, and the rule chosen by these."""

    specialists: Specialists
    validation: Outputs
    tuning: Tuning


@dataclass(frozen=True, eq=False)
class Choice:
    """The partition that is kept, among all that were tried."""

    best: Tuned
    tried: tuple[Tuned, ...]


def choose(job: Job, base: TrainedBase, trained: Sequence[Specialists]) -> Choice:
    """Choose a rule for each partition, and the partition with the highest cross-fitted validation accuracy."""
    tried = []
    for specialists in trained:
        validation = outputs_of(job, base, specialists, "validation", "validation")
        request = tuning_request(job.settings.gate)
        tuning = tune(validation, specialists.partition, request, job.settings.seed)
        tried.append(Tuned(specialists, validation, tuning))
    return Choice(max(tried, key=lambda one: one.tuning.accuracy), tuple(tried))


def outputs_of(
    job: Job, base: TrainedBase, specialists: Specialists, split: SplitName, title: str, more_steps: int = 0
) -> Outputs:
    """The logits of base and all specialists on a split, as a stage of this title, of which the caller does more."""
    partition, networks = specialists.partition, specialists.networks
    data: Split = getattr(job.splits, split)
    trained = {cluster: network for cluster, network in enumerate(networks) if network is not None}
    trunk = job.run.manifest.trunk
    panel = None if trunk is None else Panel(job.fabric, base.network, trained, job.splits.preprocessing, trunk.cut)
    n_steps = n_batches(data.samples, job.splits.preprocessing)
    n_more = len(trained) * n_steps if panel is None else panel.n_steps(data.samples)
    job.progress.stage(title, n_steps + n_more + more_steps)
    base_NC, label_N = job.logits(BASE_FILE, base.network, split, partition.n_classes), data.labels_N.numpy()
    # All tails go on from one output of the trunk, which is too large to keep; whole networks are asked one by one, and
    # what each says is kept, so that a run that is cut short here asks none twice.
    if panel is not None:
        packed_NM = panel.ask_all(data.samples, partition, job.progress)[1]
    else:
        packed_NM = np.zeros((len(label_N), len(partition.packed_class_M)), dtype=np.float32)
        files = specialist_files(partition)
        for cluster, specialist in trained.items():
            columns = partition.columns(cluster)
            packed_NM[:, columns] = job.logits(files[cluster], specialist, split, partition.size_S[cluster])
    return Outputs(base_NC, packed_NM, label_N, pass_cost_of(job.run.manifest))
