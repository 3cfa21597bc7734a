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
    """Which partition to make: ``n_clusters`` is S, ``max_size`` the most classes in a cluster.

    Leiden can choose S itself; balanced and confusion need S or ``max_size``; the other methods take no ``max_size``.
    Random is the control of spectral: clusters of the same sizes, with classes drawn at random. Given has a cluster for
    each group. ``route`` is for spectral only, see ``scalable_spectral_partition``.

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
    request: PartitionRequest,
    vectors_CD: ArrayLike,
    confusion_CC: Any = None,
    groups: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Partition:
    """Make the partition of a request.

    Args:
        request: method, S, largest size, seed.
        vectors_CD: label vectors of shape (C, D).
        confusion_CC: the base's confusion on validation, for method confusion only.
        groups: one given group per class, for method given only.
        progress: progress callback.

    Raises:
        PartitionError: the method cannot make a partition from these.
    """
    if request.method == "given":
        if groups is None:
            raise PartitionError("method given needs groups: a file with one for each class")
        return given_partition(groups, len(unit_rows(vectors_CD)))
    if request.method == "confusion":
        if confusion_CC is None:
            raise PartitionError("method confusion needs a run with validation logits; a bare matrix has none")
        return confusion_partition(confusion_CC, request.n_clusters, request.max_size)
    if request.method == "balanced":
        return balanced_partition(vectors_CD, request.n_clusters, request.max_size, request.seed, progress)
    if request.method == "leiden":
        return leiden_partition(vectors_CD, request.n_clusters, request.seed, progress=progress)
    n_clusters = request.n_clusters
    assert n_clusters is not None  # PartitionRequest checked
    if request.method == "kmeans":
        return kmeans_partition(vectors_CD, n_clusters, request.seed, progress)
    if request.method in ("average", "ward"):
        return agglomerative_partition(vectors_CD, n_clusters, request.method, progress=progress)
    spectral = scalable_spectral_partition(vectors_CD, n_clusters, request.seed, route=request.route, progress=progress)
    # The control has the sizes of the partition that it is a control for.
    return random_partition(spectral.size_S, request.seed) if request.method == "random" else spectral
