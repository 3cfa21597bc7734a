"""Label vectors, or a run -> a partition with all that tells whether it is good, in a folder.

::

    OUT/partition.json    cluster_of_class, quality, the curve over S
    OUT/partition.html    map, ordered similarities, dendrogram, sizes
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from typing_extensions import override

from coterie.arrays import FloatArray, IntArray
from coterie.errors import ArtifactError, DataError, PartitionError, SettingsError
from coterie.label_file import read_column, read_vectors
from coterie.logits_file import has_logits, read_logits
from coterie.partition import Partition, PartitionRequest, confusion_counts, make_partition
from coterie.partition.choose import Choice, choose_n_clusters, most_to_try
from coterie.partition.embedding import LabelEmbedding
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
from coterie.pipeline.embedding import LabelSources
from coterie.progress import Progress
from coterie.studies.headroom.forecast import BasePredictions, Outlook, forecast
from coterie.studies.partition.map import choose_map, map_labels
from coterie.studies.partition.page import PageContent, render
from coterie.system.files import write_whole
from coterie.vocabulary import GROUPS_COLUMN, MapKind, PartitionMethod, Route, embedding_parts

FORMAT = 1
# Stability takes ten more partitions.
STABILITY_UP_TO = 5000
SEEDED = ("spectral", "kmeans", "leiden", "balanced")


@dataclass(frozen=True, eq=False)
class LabelData:
    """What is known of C classes: ``vectors_CD``; names; given groups, or None; and of a run its base's probabilities
    on validation and the true classes, or None.
    """

    about: str
    vectors_CD: NDArray[Any]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    proba_NC: FloatArray | None = None
    label_N: IntArray | None = None

    @cached_property
    def confusion_CC(self) -> Any:
        """Counts of validation, sparse; None without validation."""
        if self.proba_NC is None or self.label_N is None:
            return None
        return confusion_counts(self.proba_NC, self.label_N)

    def forecast(self) -> Callable[[Partition], float] | None:
        """The gain forecast of a partition; None without validation."""
        if self.proba_NC is None or self.label_N is None:
            return None
        # The logarithms of probabilities are logits, up to a number for each sample.
        log_NC = np.log(np.maximum(self.proba_NC, np.finfo(np.float32).tiny)).astype(np.float32)
        answers = BasePredictions(log_NC, self.label_N)
        return lambda partition: forecast(answers, Outlook.of(answers, partition), "hard").gain


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


class _Notes(Progress):
    """Passes all on, and keeps the notes."""

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


def read_labels(
    source: Path,
    *,
    array: str | None = None,
    embedding: str | None = None,
    names: str | None = None,
    groups: str | None = None,
) -> LabelData:
    """Label vectors from a run folder or a file, with names and given groups.

    Args:
        source: a run folder; a .npy, .npz or .safetensors file; or logits with labels, as ``logits_file`` reads them.
        array: its name in the file, where there are several.
        embedding: of a run or of logits, as ``partition.embedding``; the run's own, or head, if left out. Of logits,
            head is how they vary together.
        names: see ``label_file.read_column``.
        groups: the same; or of a run ``column:NAME``, a further label column of its data.

    Raises:
        SettingsError: an unknown embedding.
        DataError: a file that cannot be read, or does not fit.
        ArtifactError: a run that has not got as far as that.
        PartitionError: a class without validation samples, where the embedding needs some.
    """
    if embedding is not None:
        _check_embedding(embedding)
    if source.is_dir():
        data = _read_run(source, embedding)
    elif source.is_file() and has_logits(source):
        data = _read_logits(source, names, embedding)
    elif embedding is not None:
        raise DataError(f"--embedding {embedding} is for run folders and logits; {source} holds the embedding itself")
    else:
        vectors_CD = read_vectors(source, array)
        if vectors_CD.ndim != 2:
            raise PartitionError(f"label embeddings must be a C x D matrix; {source} has shape {vectors_CD.shape}")
        n_classes, width = vectors_CD.shape
        about = f"{n_classes:,} label vectors of {width} dimensions from {source.name}."
        data = LabelData(about, vectors_CD, tuple(str(k) for k in range(n_classes)))
    n_classes = len(data.vectors_CD)
    return LabelData(
        data.about,
        data.vectors_CD,
        read_column(names, n_classes, "names") if names else data.names,
        _read_groups(source, groups, n_classes) if groups else None,
        data.proba_NC,
        data.label_N,
    )


def _check_embedding(embedding: str) -> None:
    try:
        embedding_parts(embedding)
    except ValueError as error:
        raise SettingsError(f"--embedding {embedding}: {error}") from None


def study(data: LabelData, settings: StudySettings, progress: Progress) -> PartitionStudy:
    """Make the partition that was asked for, choosing S if need be, and judge it.

    Raises:
        PartitionError: what cannot be partitioned so.
    """
    notes = _Notes(progress)
    choice = _choose(data, settings, notes)
    n_clusters = settings.clusters if choice is None else choice.chosen
    wish = PartitionRequest(settings.method, n_clusters, settings.max_size, settings.seed, settings.route)
    partition = make_partition(wish, data.vectors_CD, data.confusion_CC, data.groups, notes)
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
        PageContent(
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
    wish = PartitionRequest(method, 1, None, settings.seed, settings.route)

    def anew(n_clusters: int) -> Partition:
        return make_partition(replace(wish, n_clusters=n_clusters), data.vectors_CD, data.confusion_CC)

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
    wish = PartitionRequest(method, n_clusters, max_size, seed, settings.route)
    figures: dict[str, float | None] = {}
    if method in SEEDED:
        figures["seed_stability"] = seed_stability(
            partition,
            lambda other: make_partition(replace(wish, seed=seed + other), data.vectors_CD),
        )
    # Of few dimensions, a draw can leave a class without direction, or too few directions for S.
    try:
        figures["bootstrap_stability"] = bootstrap_stability(
            partition, np.asarray(data.vectors_CD), lambda drawn_CD: make_partition(wish, drawn_CD), seed
        )
    except PartitionError:
        figures["bootstrap_stability"] = None
    return figures


def _read_groups(source: Path, place: str, n_classes: int) -> tuple[str, ...]:
    if not place.startswith(GROUPS_COLUMN):
        return read_column(place, n_classes, "groups")
    if not source.is_dir():
        raise DataError(f"--groups {place} is for run folders; {source} is a file")
    from coterie.data import read_groups
    from coterie.run.folder import Run
    from coterie.run.values import labels_of

    manifest = Run.open(source).manifest
    settings = manifest.settings
    return read_groups(settings.data, place.removeprefix(GROUPS_COLUMN), labels_of(manifest))


def _read_logits(file: Path, names: str | None, embedding: str | None) -> LabelData:
    logits, _ = read_logits(file, read_column(names, None, "names") if names else None)
    n_classes = logits.logits_NC.shape[1]
    rows_CD = LabelEmbedding.from_logits(logits.logits_NC).vectors_CD
    proba_NC = softmax(logits.logits_NC.astype(np.float64), axis=1)
    sources = LabelSources(rows_CD, None, proba_NC, logits.label_N)
    by = "how the logits vary together" if embedding in (None, "head") else embedding
    return LabelData(
        f"{n_classes:,} classes of the logits in {file.name}, by {by}.",
        sources.embed(embedding or "head").vectors_CD,
        tuple(str(k) for k in range(n_classes)),
        None,
        proba_NC,
        logits.label_N,
    )


def _read_run(folder: Path, embedding: str | None) -> LabelData:
    from coterie.run.folder import Run
    from coterie.run.names import BASE_FILE
    from coterie.run.reporting import read_base_logits
    from coterie.run.values import labels_of, where_rows_are

    run = Run.open(folder)
    if run.manifest.head is None or not run.has(BASE_FILE):
        raise ArtifactError(f"{folder} has no trained base yet; let `coterie fit` go on")
    wish = embedding or run.settings.partition.embedding
    names = labels_of(run.manifest).names
    proba_NC = label_N = None
    if (kept := read_base_logits(run, "validation")) is not None:
        proba_NC, label_N = softmax(kept[0].astype(np.float64), axis=1), kept[1]
    file, rows, biases = where_rows_are(run)
    arrays = run.read_arrays(file)
    sources = LabelSources(
        arrays[rows].astype(np.float64),
        arrays[biases].astype(np.float64) if biases in arrays else None,
        proba_NC,
        label_N,
        lambda: _features(run),
    )
    about = f"{len(names):,} classes of the run {folder.name}, by {wish}."
    return LabelData(about, sources.embed(wish).vectors_CD, names, None, proba_NC, label_N)


def _features(run: Any) -> FloatArray:
    """What enters the head of a run's base for each of its validation samples."""
    from coterie.pipeline.prepare import base_of_run
    from coterie.training.fabric import make_fabric
    from coterie.training.passes import compute_features

    splits, base = base_of_run(run)
    fabric = make_fabric(run.settings.hardware)
    return compute_features(fabric, base.network, base.head, splits.validation.samples, splits.preprocessing)
