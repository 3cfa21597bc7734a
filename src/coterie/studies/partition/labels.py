"""A run, a matrix or a file of logits -> what is known of its classes: label vectors, names, groups, confusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from coterie.arrays import FloatArray, IntArray
from coterie.errors import ArtifactError, DataError, PartitionError, SettingsError
from coterie.label_file import read_column, read_vectors
from coterie.logits_file import has_logits, read_logits
from coterie.pages.format import count
from coterie.partition import Partition, confusion_counts
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline.embedding import LabelSources
from coterie.routing.forecast import BasePredictions, Outlook, forecast
from coterie.vocabulary import GROUPS_COLUMN, embedding_parts


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


def read_labels(
    source: Path,
    *,
    array: str | None = None,
    embedding: str | None = None,
    names: str | None = None,
    groups: str | None = None,
    trust: str | None = None,
) -> LabelData:
    """Label vectors from a run folder or a file, with names and given groups.

    Args:
        source: a run folder; a .npy, .npz or .safetensors file; or logits with labels, as ``logits_file`` reads them.
        array: its name in the file, where there are several.
        embedding: of a run or of logits, as ``partition.embedding``; default: the run's own; of logits head,
            which is how they vary together.
        names: see ``label_file.read_column``.
        groups: the same; or of a run ``column:NAME``, a further label column of its data.
        trust: of a run, as for ``load_ensemble``.

    Raises:
        SettingsError: an unknown embedding.
        DataError: a file that cannot be read, or does not fit.
        ArtifactError: a run that has not got as far as that, or whose base has to be built by code that nobody said to
            trust.
        PartitionError: a class without validation samples, where the embedding needs some.
    """
    if embedding is not None:
        _check_embedding(embedding)
    if source.is_dir():
        data = _read_run(source, embedding, trust)
    elif source.is_file() and has_logits(source):
        data = _read_logits(source, names, embedding)
    elif embedding is not None:
        raise DataError(f"--embedding {embedding} is for run folders and logits; {source} holds the embedding itself")
    else:
        vectors_CD = read_vectors(source, array)
        if vectors_CD.ndim != 2:
            raise PartitionError(f"label embeddings must be a C x D matrix; {source} has shape {vectors_CD.shape}")
        n_classes, width = vectors_CD.shape
        about = f"{count(n_classes)} label vectors of {width} dimensions from {source.name}."
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
        "; ".join([f"{count(n_classes)} classes of the logits in {file.name}, by {by}", *logits.notes]) + ".",
        sources.embed(embedding or "head").vectors_CD,
        tuple(str(k) for k in range(n_classes)),
        None,
        proba_NC,
        logits.label_N,
    )


def _read_run(folder: Path, embedding: str | None, trust: str | None) -> LabelData:
    from coterie.run.folder import Run
    from coterie.run.names import BASE_FILE
    from coterie.run.reporting import read_base_logits
    from coterie.run.values import labels_of, read_head

    run = Run.open(folder)
    if run.manifest.head is None or not run.has(BASE_FILE):
        raise ArtifactError(f"{folder} has no trained base yet; let `coterie fit` go on")
    embedding_name = embedding or run.settings.partition.embedding
    names = labels_of(run.manifest).names
    proba_NC = label_N = None
    if (kept := read_base_logits(run, "validation")) is not None:
        proba_NC, label_N = softmax(kept[0].astype(np.float64), axis=1), kept[1]
    rows_CD, bias_C = read_head(run)
    sources = LabelSources(
        rows_CD,
        bias_C,
        proba_NC,
        label_N,
        lambda: _features(run, trust),
    )
    about = f"{count(len(names))} classes of the run {folder.name}, by {embedding_name}."
    return LabelData(about, sources.embed(embedding_name).vectors_CD, names, None, proba_NC, label_N)


def _features(run: Any, trust: str | None) -> FloatArray:
    """What enters the head of a run's base for each of its validation samples."""
    from coterie.pipeline.prepare import base_of_run
    from coterie.training.fabric import make_fabric
    from coterie.training.passes import compute_features

    splits, base = base_of_run(run, trust)
    fabric = make_fabric(run.settings.hardware, splits.preprocessing)
    return compute_features(fabric, base.network, base.head, splits.validation.samples, splits.preprocessing)
