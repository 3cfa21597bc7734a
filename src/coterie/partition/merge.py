"""Greedy merging of clusters along the edges of a weighted graph, within a limit of size."""

from __future__ import annotations

import heapq
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from coterie.arrays import IntArray
from coterie.errors import PartitionError

Strength = Literal["sum", "mean"]


def check_max_size(max_size: int, n_clusters: int | None, n_classes: int) -> None:
    """Raise PartitionError unless S clusters of at most ``max_size`` classes can hold all C."""
    least = 1 if n_clusters is None else -(-n_classes // n_clusters)
    if max_size < least:
        raise PartitionError(
            f"clusters of at most {max_size} classes cannot hold {n_classes} classes"
            + (f" in {n_clusters} clusters" if n_clusters else "")
            + f"; allowed: at least {least}"
        )


def merge_greedily(weight_CC: csr_array, n_clusters: int | None, max_size: int | None, strength: Strength) -> IntArray:
    """Start from one cluster per class, and join the two that are tied most strongly, again and again.

    Args:
        weight_CC: symmetric, at least 0, of shape (C, C); a zero is no tie.
        n_clusters: stop at this number; None: stop when no tie is left that the limit allows.
        max_size: classes per cluster at most; None: no limit.
        strength: of two clusters, the sum of the weights between them, or the mean over all pairs (average linkage).

    Returns:
        The cluster of each class. Where ties run out before S is reached, the smallest clusters are joined.
    """
    n_classes = weight_CC.shape[0]
    max_size = n_classes if max_size is None else max_size
    state = _Clusters(weight_CC, max_size, mean=strength == "mean")
    least = 1 if n_clusters is None else n_clusters
    while len(state.members) > least and state.merge_strongest():
        pass
    if n_clusters is not None:
        while len(state.members) > n_clusters:
            state.merge_or_dissolve_smallest()
    cluster_C = np.empty(n_classes, dtype=np.int64)
    for cluster, members in state.members.items():
        cluster_C[members] = cluster
    return cluster_C


class _Clusters:
    """Clusters, the ties between them, and a heap of ties; outdated ties in the heap are skipped."""

    def __init__(self, weight_CC: csr_array, max_size: int, *, mean: bool) -> None:
        self.max_size, self.mean = max_size, mean
        self.weight_CC = weight_CC
        self.members: dict[int, list[int]] = {k: [k] for k in range(weight_CC.shape[0])}
        start, index, data = weight_CC.indptr, weight_CC.indices.tolist(), weight_CC.data.tolist()
        self.ties: dict[int, dict[int, float]] = {
            k: {
                other: weight
                for other, weight in zip(index[first:stop], data[first:stop], strict=True)
                if other != k and weight > 0
            }
            for k, (first, stop) in enumerate(zip(start[:-1].tolist(), start[1:].tolist(), strict=True))
        }
        self.heap = [(-weight, a, b) for a, ties in self.ties.items() for b, weight in ties.items() if a < b]
        heapq.heapify(self.heap)

    def _strength(self, a: int, b: int) -> float:
        weight = self.ties[a][b]
        return weight / (len(self.members[a]) * len(self.members[b])) if self.mean else weight

    def _fit(self, a: int, b: int) -> bool:
        return len(self.members[a]) + len(self.members[b]) <= self.max_size

    def merge_strongest(self) -> bool:
        """Join the two clusters with the strongest tie; return whether there were any."""
        while self.heap:
            strength, a, b = heapq.heappop(self.heap)
            # A merge leaves old ties in the heap, as a search for each would cost more than to skip them here.
            current = a in self.members and b in self.ties.get(a, {}) and -strength == self._strength(a, b)
            if current and self._fit(a, b):
                self._merge(a, b)
                return True
        return False

    def _merge(self, a: int, b: int) -> None:
        # The shorter list is moved, so that most ties stay where they are.
        if len(self.ties[a]) < len(self.ties[b]):
            a, b = b, a
        own = self.ties[a]
        for other, weight in self.ties.pop(b).items():
            del self.ties[other][b]
            if other != a:
                own[other] = self.ties[other][a] = own.get(other, 0.0) + weight
        self.members[a] += self.members.pop(b)
        # Sizes only grow, so a pair that does not fit now never will.
        for other in own:
            if self._fit(a, other):
                heapq.heappush(self.heap, (-self._strength(a, other), min(a, other), max(a, other)))

    def merge_or_dissolve_smallest(self) -> None:
        """Make one cluster fewer where no tie is left: join the two smallest, or share out the smallest."""
        # By size, then by number, so that the order does not depend on that of a dictionary.
        smallest, second = heapq.nsmallest(2, self.members, key=lambda k: (len(self.members[k]), k))
        if self._fit(smallest, second):
            self.members[second] += self.members.pop(smallest)
            return
        for label in self.members.pop(smallest):
            first, stop = self.weight_CC.indptr[label : label + 2]
            weight = dict(
                zip(self.weight_CC.indices[first:stop].tolist(), self.weight_CC.data[first:stop].tolist(), strict=True)
            )
            room = [k for k, members in self.members.items() if len(members) < self.max_size]
            best = max(room, key=lambda k: sum(weight.get(member, 0.0) for member in self.members[k]))
            self.members[best].append(label)
