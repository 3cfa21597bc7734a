"""What label embeddings can be made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from scipy.special import softmax
from torch import nn

from coterie.arrays import FloatArray, IntArray
from coterie.backbones import Head, head_inputs
from coterie.backbones.base import Base
from coterie.backbones.probe import evaluating, fitting
from coterie.data.splits import Split, Splits
from coterie.errors import PartitionError
from coterie.partition.embedding import LabelEmbedding, read_class_vectors
from coterie.training.passes import compute_features, compute_logits
from coterie.vocabulary import EMBEDDINGS, embedding_parts


@dataclass(frozen=True, eq=False)
class LabelSources:
    """What there is of a base to make label embeddings from.

    ``rows_CD``: the head's weight rows, and ``bias_C`` its biases, or None where it has none; ``proba_NC`` and
    ``label_N``: the base's probabilities on validation, and the true classes, or None; ``features``: gives what
    entered the head for each of these samples, of shape (N, D), or None where nobody can tell.
    """

    rows_CD: FloatArray
    bias_C: FloatArray | None = None
    proba_NC: FloatArray | None = None
    label_N: IntArray | None = None
    features: Callable[[], FloatArray] | None = None

    def embed(self, embedding: str) -> LabelEmbedding:
        """The embedding that ``partition.embedding`` asks for; of two parts, their cosines are averaged.

        Raises:
            PartitionError: what it needs is not there, or a class has no validation sample.
            DataError: a file that cannot be read, or has not one vector a class.
        """
        return reduce(LabelEmbedding.mixed_with, map(self._part, embedding_parts(embedding)))

    def _part(self, part: str) -> LabelEmbedding:
        if part == "head":
            return LabelEmbedding(self.rows_CD)
        if part == "head+bias":
            return LabelEmbedding(self.rows_CD if self.bias_C is None else np.column_stack([self.rows_CD, self.bias_C]))
        if part not in ("means", "confusion"):
            return LabelEmbedding(read_class_vectors(Path(part), len(self.rows_CD)))
        if self.proba_NC is None or self.label_N is None:
            raise PartitionError(f"embedding {part} needs validation samples, and there are none yet")
        if part == "confusion":
            return LabelEmbedding.from_confusion(self.proba_NC, self.label_N)
        if self.features is None:
            raise PartitionError("embedding means needs what enters the base's head; of logits alone nobody can tell")
        return LabelEmbedding.from_class_means(self.features(), self.label_N, len(self.rows_CD))


def label_sources(
    fabric: Fabric,
    splits: Splits,
    network: nn.Module,
    head: Head,
    base_validation_NC: FloatArray,
    embedding: str,
) -> LabelSources:
    """What a label embedding can be made of, of a trained base and what it says of the validation samples. Where the
    embedding needs samples of each class, classes that validation lacks are known by their training samples.
    """
    rows = head.of(network)
    parts, logits = [splits.validation], [base_validation_NC]
    if {"means", "confusion"} & set(embedding_parts(embedding)) and (lacking := _of_lacking_classes(splits)):
        parts.append(lacking)
        logits.append(compute_logits(fabric, network, lacking.samples, splits.preprocessing))
    return LabelSources(
        rows.weight.detach().cpu().double().numpy(),
        None if rows.bias is None else rows.bias.detach().cpu().double().numpy(),
        softmax(np.concatenate(logits), axis=1),
        np.concatenate([part.labels_N.numpy() for part in parts]),
        lambda: np.concatenate(
            [compute_features(fabric, network, head, part.samples, splits.preprocessing) for part in parts]
        ),
    )


def _of_lacking_classes(splits: Splits) -> Split | None:
    """The training samples of the classes that have none in validation; None where all have."""
    train = splits.train
    rows = torch.nonzero(~torch.isin(train.labels_N, splits.validation.labels_N)).squeeze(1)
    return Split(train.samples.take(rows), train.labels_N[rows]) if len(rows) else None


def check_embedding(embedding: str, base: Base, splits: Splits) -> None:
    """Before anything is trained: that the base and the data have what a label embedding is made of.

    Raises:
        BackboneError: nothing says what enters the base's head.
        DataError: a file that cannot be read, or has not one vector a class.
    """
    parts = embedding_parts(embedding)
    for part in parts:
        if part not in EMBEDDINGS:
            read_class_vectors(Path(part), len(splits.labels))
    if "means" in parts:
        with evaluating(base.network), head_inputs(base.network, base.head):
            base.network(fitting(splits.preprocessing.example(), base.network))
