"""Label vectors, or a run -> a partition with all that tells whether it is good, in a folder.

::

    OUT/partition.json    cluster_of_class, quality, the curve over S
    OUT/partition.html    map, ordered similarities, dendrogram, sizes
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from typing_extensions import override

from coterie.errors import PartitionError
from coterie.partition import Partition, PartitionRequest, make_partition
from coterie.partition.choose import Choice, choose_n_clusters, most_to_try
from coterie.partition.quality import (
    Quality,
    agreement,
    bootstrap_stability,
    confusion_kept,
    cosine_silhouette,
    router_accuracy,
    seed_stability,
)
from coterie.partition.spectral import spectral_family
from coterie.partition.vectors import unit_rows
from coterie.progress import Progress
from coterie.studies.partition.labels import LabelData
from coterie.studies.partition.map import choose_map, map_labels
from coterie.studies.partition.page import PartitionContent, render
from coterie.system.files import write_whole
from coterie.vocabulary import MapKind, PartitionMethod, Route

FORMAT = 1
# Stability takes ten more partitions.
STABILITY_UP_TO = 5000
SEEDED = ("spectral", "kmeans", "leiden", "balanced")


@dataclass(frozen=True)
class StudySettings:
    """What is asked for. Without ``clusters`` S is chosen; ``stability`` of auto: where classes are few."""

    method: PartitionMethod = "spectral"
    clusters: int | None = None
    max_size: int | None = None
    seed: int = 0
    map_kind: MapKind = "auto"
    stability: Literal["auto", "yes", "no"] = "auto"
    route: Route = "auto"


@dataclass(frozen=True, eq=False)
class PartitionStudy:
    """A partition and what was found of it."""

    data: LabelData
    settings: StudySettings
    partition: Partition
    quality: Quality
    choice: Choice | None
    notes: tuple[str, ...]

    def to_values(self) -> dict[str, Any]:
        """Plain values, as partition.json holds them."""
        return {
            "format": FORMAT,
            "about": self.data.about,
            "method": self.settings.method,
            "seed": self.settings.seed,
            "n_classes": self.partition.n_classes,
            "n_clusters": self.partition.n_clusters,
            "quality": self.quality.to_values(),
            "choice": self.choice.to_values() if self.choice else None,
            "notes": list(self.notes),
            "cluster_of_class": self.partition.cluster_of_class_C.tolist(),
        }


class _NotedProgress(Progress):
    """A progress callback that passes everything on and keeps the notes."""

    def __init__(self, inner: Progress) -> None:
        self.inner = inner
        self.notes: list[str] = []

    @override
    def stage(self, title: str, steps: int) -> None:
        self.inner.stage(title, steps)

    @override
    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        self.inner.advance(steps, n_images, loss, accuracy)

    @override
    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.inner.note(text)


def study_partition(data: LabelData, settings: StudySettings, progress: Progress) -> PartitionStudy:
    """Make the partition that was asked for, choosing S if need be, and judge it.

    Raises:
        PartitionError: what cannot be partitioned so.
    """
    notes = _NotedProgress(progress)
    choice = _choose(data, settings, notes)
    n_clusters = settings.clusters if choice is None else choice.chosen
    request = PartitionRequest(settings.method, n_clusters, settings.max_size, settings.seed, settings.route)
    partition = make_partition(request, data.vectors_CD, data.confusion_CC, data.groups, notes)
    quality = _judge(data, settings, partition)
    return PartitionStudy(data, settings, partition, quality, choice, tuple(notes.notes))


def write_study(study: PartitionStudy, out: Path, progress: Progress) -> None:
    """Leave partition.json and partition.html in a folder.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    write_whole(out / "partition.json", json.dumps(study.to_values(), allow_nan=False).encode())
    unit_CD = unit_rows(study.data.vectors_CD)
    kind = choose_map(len(unit_CD), study.settings.map_kind)
    progress.stage(f"map ({kind})", 1)
    place_C2 = map_labels(unit_CD, kind, study.settings.seed)
    progress.advance(1)
    page = render(
        PartitionContent(
            about=study.data.about,
            method=_in_words(study),
            partition=study.partition,
            names=study.data.names,
            unit_CD=unit_CD,
            quality=study.quality,
            choice=study.choice,
            place_C2=place_C2,
            map_kind={"umap": "UMAP", "tsne": "t-SNE", "pca": "principal components"}[kind],
            notes=study.notes,
        )
    )
    write_whole(out / "partition.html", page.encode("utf-8", "replace"))


def _in_words(study: PartitionStudy) -> str:
    words = {
        "spectral": "spectral clustering",
        "kmeans": "spherical k-means",
        "average": "agglomerative clustering with average linkage",
        "ward": "agglomerative clustering with Ward's linkage",
        "leiden": "Leiden communities of the graph of nearest classes",
        "balanced": "k-means with clusters of limited size",
        "confusion": "joining what validation confuses",
        "random": "chance, with the sizes of spectral clustering: a control",
        "given": "the given groups",
    }
    return f"{words[study.settings.method]}, seed {study.settings.seed}"


def _choose(data: LabelData, settings: StudySettings, progress: Progress) -> Choice | None:
    """S by its curve, where it was not given and the method neither takes a limit of size nor finds S itself."""
    method = settings.method
    if settings.clusters is not None or settings.max_size is not None or method == "leiden" or method == "given":
        return None
    request = PartitionRequest(method, 1, None, settings.seed, settings.route)

    def anew(n_clusters: int) -> Partition:
        return make_partition(replace(request, n_clusters=n_clusters), data.vectors_CD, data.confusion_CC)

    make: Callable[[int], Partition] = anew
    if method == "spectral":
        most = most_to_try(unit_rows(data.vectors_CD))
        make = spectral_family(data.vectors_CD, most, settings.seed, progress, settings.route)
    return choose_n_clusters(data.vectors_CD, make, data.forecast(), seed=settings.seed, progress=progress)


def _judge(data: LabelData, settings: StudySettings, partition: Partition) -> Quality:
    figures: dict[str, float | None] = {"silhouette": cosine_silhouette(unit_rows(data.vectors_CD), partition)}
    if data.proba_NC is not None and data.label_N is not None:
        kept = confusion_kept(data.confusion_CC, partition)
        figures["confusion_kept"], figures["confusion_kept_at_random"] = kept or (None, None)
        figures["router_accuracy"] = router_accuracy(data.proba_NC, data.label_N, partition)
        foresee = data.forecast()
        figures["gain_forecast"] = foresee(partition) if foresee else None
    if data.groups is not None:
        figures["rand_index"], figures["mutual_information"] = agreement(partition, data.groups)
    few = partition.n_classes <= STABILITY_UP_TO
    wanted = settings.stability == "yes" or (settings.stability == "auto" and few)
    if wanted and settings.method not in ("given", "random", "confusion") and partition.n_clusters > 1:
        figures |= _stability(data, settings, partition)
    return Quality.of(partition, **figures)


def _stability(data: LabelData, settings: StudySettings, partition: Partition) -> dict[str, float | None]:
    method, max_size, seed = settings.method, settings.max_size, settings.seed
    n_clusters = None if settings.clusters is None and method == "leiden" else partition.n_clusters
    request = PartitionRequest(method, n_clusters, max_size, seed, settings.route)
    figures: dict[str, float | None] = {}
    if method in SEEDED:
        figures["seed_stability"] = seed_stability(
            partition,
            lambda other: make_partition(replace(request, seed=seed + other), data.vectors_CD),
        )
    # Of few dimensions, a draw can leave a class without direction, or too few directions for S.
    try:
        figures["bootstrap_stability"] = bootstrap_stability(
            partition, np.asarray(data.vectors_CD), lambda drawn_CD: make_partition(request, drawn_CD), seed
        )
    except PartitionError:
        figures["bootstrap_stability"] = None
    return figures
