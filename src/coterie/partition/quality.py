"""How good a partition is: figures from vectors, validation samples and given groups, where these are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from coterie.arrays import FloatArray, IntArray
from coterie.errors import PartitionError
from coterie.partition.value import Partition
from coterie.partition.vectors import blocks

REPEATS = 5


@dataclass(frozen=True)
class Quality:
    """Figures of a partition; None where their input is not known. Shares are of 1.

    ``silhouette``: mean over classes, in cosine, from -1 to 1; ``confusion_kept``: share of the base's validation
    errors whose true and predicted class share a cluster; ``confusion_kept_at_random``: what random clusters of these
    sizes would keep; ``router_accuracy``: share of validation samples whose likeliest cluster holds the true class;
    ``gain_forecast``: of the ensemble over the base, in accuracy; ``rand_index`` and ``mutual_information``: agreement
    with given groups, 1 where they are the same; ``seed_stability`` and ``bootstrap_stability``: mean adjusted Rand
    index to partitions of other seeds, and of vectors whose dimensions are drawn with replacement.
    """

    n_clusters: int
    smallest: int
    median: float
    largest: int
    silhouette: float | None = None
    confusion_kept: float | None = None
    confusion_kept_at_random: float | None = None
    router_accuracy: float | None = None
    gain_forecast: float | None = None
    rand_index: float | None = None
    mutual_information: float | None = None
    seed_stability: float | None = None
    bootstrap_stability: float | None = None

    @classmethod
    def of(cls, partition: Partition, **figures: float | None) -> Quality:
        """Sizes from the partition, the other figures as given."""
        size_S = partition.size_S
        return cls(partition.n_clusters, int(size_S.min()), float(np.median(size_S)), int(size_S.max()), **figures)

    def to_values(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return asdict(self)


def cosine_silhouette(unit_CD: FloatArray, partition: Partition) -> float | None:
    """The mean silhouette over classes with 1 - cosine as distance (Rousseeuw 1987); None for one cluster.

    Classes alone in their cluster count as 0. Memory: one block of classes x clusters.
    """
    n_classes, n_clusters = partition.n_classes, partition.n_clusters
    if n_clusters == 1:
        return None
    size_S = partition.size_S
    # The mean cosine to a cluster's classes is the cosine with their mean, so pairs of classes are never compared.
    mean_SD = (partition.membership_SC.astype(np.float32) @ unit_CD) / size_S[:, None].astype(np.float32)
    cluster_C = partition.cluster_of_class_C
    total = 0.0
    for rows in blocks(n_classes, n_clusters):
        distance_BS = 1.0 - unit_CD[rows] @ mean_SD.T
        own = (np.arange(rows.stop - rows.start), cluster_C[rows])
        size_B = size_S[cluster_C[rows]]
        # A class has distance 0 to itself, which is in the mean but is no neighbour.
        inside_B = distance_BS[own] * size_B / np.maximum(size_B - 1, 1)
        distance_BS[own] = np.inf
        outside_B = distance_BS.min(axis=1)
        score_B = (outside_B - inside_B) / np.maximum(np.maximum(outside_B, inside_B), 1e-12)
        total += float(score_B[size_B > 1].sum())
    return total / n_classes


def confusion_kept(confusion_CC: csr_array, partition: Partition) -> tuple[float, float] | None:
    """Share of errors whose true and predicted class share a cluster, and the share that random clusters would keep.

    None where there is no error.
    """
    errors = confusion_CC.tocoo()
    true, predicted = errors.coords
    off = true != predicted
    total = float(errors.data[off].sum())
    if total <= 0:
        return None
    cluster_C = partition.cluster_of_class_C
    kept = float(errors.data[off & (cluster_C[true] == cluster_C[predicted])].sum())
    # At random, an error stays inside with the share of ordered pairs of classes that lie in one cluster.
    size_S = partition.size_S.astype(np.float64)
    n_classes = partition.n_classes
    return kept / total, float((size_S * (size_S - 1)).sum() / (n_classes * (n_classes - 1)))


def router_accuracy(proba_NC: FloatArray, label_N: IntArray, partition: Partition) -> float:
    """Share of samples whose likeliest cluster, by summed probability, holds the true class."""
    return float(partition.holds(partition.likeliest_N(partition.mass_NS(proba_NC)), label_N).mean())


def agreement(partition: Partition, group_of_class: Sequence[str] | ArrayLike) -> tuple[float, float]:
    """Adjusted Rand index and normalised mutual information with given groups; 1 where they are the same.

    Raises:
        PartitionError: another number of groups than of classes.
    """
    # Imported here: it takes a second, and an ensemble that is loaded needs none of it.
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    groups = np.asarray(group_of_class)
    if groups.shape != (partition.n_classes,):
        raise PartitionError(
            f"{groups.size} groups given for {partition.n_classes} classes; allowed: one for each class"
        )
    cluster_C = partition.cluster_of_class_C
    return float(adjusted_rand_score(groups, cluster_C)), float(normalized_mutual_info_score(groups, cluster_C))


def seed_stability(partition: Partition, make: Callable[[int], Partition], repeats: int = REPEATS) -> float:
    """Mean adjusted Rand index to the partitions that other seeds give.

    Args:
        partition: the one to judge.
        make: a partition from a seed.
        repeats: number of other seeds.
    """
    # Seed 0 is the default, and most likely made the partition that is judged.
    return _mean_agreement(partition, [make(1 + seed) for seed in range(repeats)])


def bootstrap_stability(
    partition: Partition,
    vectors_CD: FloatArray,
    make: Callable[[FloatArray], Partition],
    seed: int = 0,
    repeats: int = REPEATS,
) -> float:
    """Mean adjusted Rand index to the partitions of vectors whose dimensions are drawn with replacement (Efron 1979).

    Args:
        partition: the one to judge.
        vectors_CD: what it was made of.
        make: a partition from vectors.
        seed: of the draws.
        repeats: number of draws.
    """
    # A bootstrap draws samples anew, but each class has one vector: its dimensions are what can be drawn.
    rng = np.random.default_rng(seed)
    width = vectors_CD.shape[1]
    return _mean_agreement(partition, [make(vectors_CD[:, rng.integers(width, size=width)]) for _ in range(repeats)])


def _mean_agreement(partition: Partition, others: Sequence[Partition]) -> float:
    return float(np.mean([agreement(partition, other.cluster_of_class_C)[0] for other in others]))
