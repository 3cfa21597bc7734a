"""The second stage: label embeddings of the trained base, and the partitions whose specialists are trained."""

from __future__ import annotations

from scipy.special import softmax

from coterie.errors import ArtifactError
from coterie.pages.format import percent
from coterie.partition import Partition, confusion_counts, join_confused, make_partition
from coterie.pipeline.base import TrainedBase
from coterie.pipeline.embedding import label_sources
from coterie.pipeline.job import Job
from coterie.pipeline.prepare import partition_request
from coterie.routing.forecast import BasePredictions
from coterie.routing.pilot import open_share
from coterie.run.values import members_of


def make_partitions(job: Job, base: TrainedBase) -> list[Partition]:
    """One partition per number of clusters; those that an earlier start made, if one did.

    Raises:
        ArtifactError: the given groups have changed since.
    """
    n_classes, known = len(job.splits.labels), job.run.manifest.groupings
    # Made again, they could differ in a last bit of the base's logits on another machine, and with them the clusters
    # whose specialists are there already. Given groups are made again: the file may have changed, which is refused.
    if known and job.settings.partition.method != "given":
        return [Partition.from_members(members, n_classes) for members in known]
    partitions = _or_one(job, base, _make(job, base))
    made = tuple(members_of(partition) for partition in partitions)
    if known not in ((), made):
        raise ArtifactError(
            f"the groups of {job.settings.partition.groups} have changed since {job.run.path} was begun; choose "
            "another --out"
        )
    job.run.update(groupings=made)
    return partitions


def _make(job: Job, base: TrainedBase) -> list[Partition]:
    """Given groups and limits of size may give another number than was asked for; where two requests come to the same
    number of clusters, the first is kept.
    """
    prepared, settings, label_N = job.prepared, job.settings.partition, job.splits.validation.labels_N.numpy()
    sources = label_sources(job.fabric, job.splits, base.network, base.head, base.validation_NC, settings.embedding)
    vectors_CD = sources.embed(settings.embedding).vectors_CD
    proba_NC = softmax(base.validation_NC, axis=1)
    confusion_CC = confusion_counts(proba_NC, label_N)
    by_number: dict[int, Partition] = {}
    for n_clusters in prepared.n_clusters:
        request = partition_request(settings, n_clusters, job.settings.seed)
        partition = make_partition(request, vectors_CD, confusion_CC, prepared.groups)
        partition = join_confused(partition, proba_NC, label_N, settings.overlap)
        by_number.setdefault(partition.n_clusters, partition)
    return list(by_number.values())


def _or_one(job: Job, base: TrainedBase, partitions: list[Partition]) -> list[Partition]:
    """The partitions, or one cluster of all classes where specialists could not put enough of the errors right."""
    least, finest = job.settings.partition.least_open, max(partitions, key=lambda one: one.n_clusters)
    if least == 0 or finest.n_clusters == 1:
        return partitions
    answers = BasePredictions(base.validation_NC, job.splits.validation.labels_N.numpy())
    share = open_share(answers, finest)
    if share >= least:
        return partitions
    job.progress.note(
        f"of the base's errors on validation {percent(share, 0)} lie inside the likeliest of {finest.n_clusters} "
        f"clusters, where its specialist could put them right; less than {percent(least, 0)}, so one specialist of all "
        f"classes is trained instead, for {job.settings.specialist_of(1).epochs} epochs (overruled by "
        "--partition.clusters, or --partition.least-open)"
    )
    return [Partition.from_assignment([0] * len(job.splits.labels))]
