"""The methods by name: what settings and the command line choose from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from numpy.typing import ArrayLike

from coterie.errors import PartitionError
from coterie.partition.agglomerative import agglomerative_partition
from coterie.partition.balanced import balanced_partition
from coterie.partition.confusion import confusion_partition
from coterie.partition.given import given_partition, random_partition
from coterie.partition.kmeans import kmeans_partition
from coterie.partition.leiden import leiden_partition
from coterie.partition.spectral import scalable_spectral_partition
from coterie.partition.value import Partition
from coterie.partition.vectors import unit_rows
from coterie.progress import SILENT, Progress
from coterie.vocabulary import PartitionMethod as Method
from coterie.vocabulary import Route

METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class PartitionRequest:
    """What partition is asked for: ``n_clusters`` is S, ``max_size`` the most classes in a cluster.

    Leiden may do without S, balanced and confusion without either of the two; the other methods know no limit of
    size. Random draws clusters of the sizes that spectral would give: its control. Given has a cluster for each group.
    ``route``: of spectral alone, see ``scalable_spectral_partition``.

    Raises:
        PartitionError: an unknown method, or limits that it does not take.
    """

    method: Method = "spectral"
    n_clusters: int | None = None
    max_size: int | None = None
    seed: int = 0
    route: Route = "auto"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise PartitionError(f"unknown method {self.method!r}; allowed: {', '.join(METHODS)}")
        if self.max_size is not None and self.method not in ("balanced", "confusion"):
            raise PartitionError(
                f"method {self.method} takes no largest size (given: {self.max_size}); balanced and confusion do"
            )
        if self.route != "auto" and self.method != "spectral":
            raise PartitionError(f"method {self.method} has one route only (given: {self.route}); spectral has two")
        if self.n_clusters is None and self.max_size is None and self.method not in ("leiden", "given"):
            raise PartitionError(f"method {self.method} needs a number of clusters")


def make_partition(
    wish: PartitionRequest,
    vectors_CD: ArrayLike,
    confusion_CC: Any = None,
    groups: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Partition:
    """The partition that was asked for.

    Args:
        wish: method, S, largest size, seed.
        vectors_CD: label vectors of shape (C, D).
        confusion_CC: the base's confusion on validation, for method confusion alone.
        groups: one given group per class, for method given alone.
        progress: who is told.

    Raises:
        PartitionError: what the method cannot do with these.
    """
    if wish.method == "given":
        if groups is None:
            raise PartitionError("method given needs groups: a file with one for each class")
        return given_partition(groups, len(unit_rows(vectors_CD)))
    if wish.method == "confusion":
        if confusion_CC is None:
            raise PartitionError("method confusion needs a run with validation logits; a bare matrix has none")
        return confusion_partition(confusion_CC, wish.n_clusters, wish.max_size)
    if wish.method == "balanced":
        return balanced_partition(vectors_CD, wish.n_clusters, wish.max_size, wish.seed, progress)
    if wish.method == "leiden":
        return leiden_partition(vectors_CD, wish.n_clusters, wish.seed, progress=progress)
    n_clusters = wish.n_clusters
    assert n_clusters is not None  # PartitionRequest checked
    if wish.method == "kmeans":
        return kmeans_partition(vectors_CD, n_clusters, wish.seed, progress)
    if wish.method in ("average", "ward"):
        return agglomerative_partition(vectors_CD, n_clusters, wish.method, progress=progress)
    spectral = scalable_spectral_partition(vectors_CD, n_clusters, wish.seed, route=wish.route, progress=progress)
    return random_partition(spectral.size_S, wish.seed) if wish.method == "random" else spectral
