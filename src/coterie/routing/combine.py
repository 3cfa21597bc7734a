"""Combining the answers of base and specialists into one distribution. Arrays only.

One function serves every rule. Each sample asks some clusters. Inside an asked cluster, P(class | cluster) is a mixture
of the base's and the specialist's, and the cluster keeps the mass that the base gave it. The classes of other clusters
either keep the base's values or get 0. The paper's rule asks one cluster, gives the specialist all the weight, and
gives 0 to all other classes.

Specialist values are packed: one column per class of each cluster (see Partition.packed_class_M).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self, get_args

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.errors import InputError
from coterie.partition import Partition
from coterie.vocabulary import CombinerName, Mixture


@dataclass(frozen=True)
class Combiner:
    """How the answers of base and specialists are combined.

    ``mixture``: of P_base(class | cluster) = p and P_specialist(class | cluster) = q with weight w: ``geometric``
    p^(1-w) q^w, ``arithmetic`` (1-w) p + w q, ``product`` p q^w, each normalised; 0 is the base in all three.
    ``weight_S``: w of each cluster, or one for all. ``top``: number of clusters that are asked, the likeliest first; of
    several partitions side by side, of each. ``keeps_rest``: classes in no asked cluster keep the base's values;
    otherwise they get 0, and the asked clusters share their mass. ``temperature``: divisor of the result's logarithms,
    as a mixture of calibrated answers is not calibrated (of arithmetic ones: Ranjan and Gneiting 2010, "Combining
    probability forecasts").

    Raises:
        InputError: a weight outside 0 to 1, fewer than one cluster, an unknown mixture, or a temperature that is not
            positive and finite.
    """

    mixture: Mixture = "geometric"
    weight_S: tuple[float, ...] = (1.0,)
    top: int = 1
    keeps_rest: bool = True
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.mixture not in get_args(Mixture):
            raise InputError(f"mixture {self.mixture!r}: must be one of {', '.join(get_args(Mixture))}")
        if not self.weight_S or not all(0 <= weight <= 1 for weight in self.weight_S):
            raise InputError(f"weights on the specialists must be from 0 to 1; got {self.weight_S}")
        if self.top < 1:
            raise InputError(f"at least one cluster must be asked; got top = {self.top}")
        if not 0 < self.temperature < np.inf:
            raise InputError(f"a combiner's temperature must be positive and finite; got {self.temperature}")

    @classmethod
    def named(
        cls, name: CombinerName, weight_S: tuple[float, ...] = (1.0,), top: int = 1, temperature: float = 1.0
    ) -> Self:
        """The combiner of a name.

        ``hard`` (the paper's) and ``compose`` give specialists all the weight, or none; ``blend`` is the geometric
        mixture, ``average`` the arithmetic one, ``product`` the product.

        Examples:
            >>> Combiner.named("blend", (0.6,)).mixture
            'geometric'
        """
        mixtures: dict[CombinerName, Mixture] = {"average": "arithmetic", "product": "product"}
        return cls(mixtures.get(name, "geometric"), weight_S, top, name != "hard", temperature)

    @property
    def name(self) -> CombinerName:
        """The name that gives this combiner with its weights."""
        if not self.keeps_rest:
            return "hard"
        names: dict[Mixture, CombinerName] = {"arithmetic": "average", "product": "product"}
        return names.get(self.mixture, "compose" if set(self.weight_S) <= {0, 1} else "blend")

    def weights(self, partition: Partition) -> FloatArray:
        """The weight of each cluster, of shape (S,).

        Raises:
            InputError: there are neither one weight nor as many as clusters.
        """
        if len(self.weight_S) not in (1, partition.n_clusters):
            raise InputError(f"{partition.n_clusters} clusters need as many weights, or one; got {len(self.weight_S)}")
        return np.broadcast_to(np.asarray(self.weight_S), partition.n_clusters)

    def needs_specialist(self, partition: Partition) -> BoolArray:
        """Whether a cluster's specialist is run when the cluster is asked: it has one, with a weight. Shape (S,)."""
        return (partition.size_S > 1) & (self.weights(partition) > 0)

    def asked(self, answer: BaseAnswer, routed_N: BoolArray) -> BoolArray:
        """Which clusters each sample asks, of shape (N, S).

        A sample that is not routed asks none, and no sample asks a cluster whose answer would change nothing.
        """
        asked_NS = answer.most_likely(self.top) & routed_N[:, None]
        # Without the rest, a cluster without a specialist changes the result too: the other classes get 0.
        return asked_NS & self.needs_specialist(answer.partition) if self.keeps_rest else asked_NS


def safe_log(proba_NC: FloatArray) -> FloatArray:
    """The logarithm, finite: 0 counts as the least positive number."""
    return np.log(np.maximum(proba_NC, np.finfo(proba_NC.dtype).tiny))


@dataclass(frozen=True, eq=False)
class BaseAnswer:
    """The base's logits of N samples, and what follows from them and a partition.

    Raises:
        InputError: the partition is of another number of classes.
    """

    logits_NC: FloatArray
    partition: Partition

    def __post_init__(self) -> None:
        if self.logits_NC.ndim != 2 or self.logits_NC.shape[1] != self.partition.n_classes:
            raise InputError(
                f"base logits {self.logits_NC.shape} do not fit a partition of {self.partition.n_classes} classes"
            )

    @cached_property
    def proba_NC(self) -> FloatArray:
        """Softmax of the logits."""
        return softmax(self.logits_NC, axis=1)

    @cached_property
    def log_proba_NC(self) -> FloatArray:
        """Its logarithm."""
        return log_softmax(self.logits_NC, axis=1)

    @cached_property
    def mass_NS(self) -> FloatArray:
        """Probability of each cluster."""
        return self.partition.mass_NS(self.proba_NC)

    @cached_property
    def cluster_N(self) -> IntArray:
        """The likeliest cluster, see ``Partition.likeliest_N``."""
        return self.partition.likeliest_N(self.mass_NS)

    @cached_property
    def cluster_mass_N(self) -> FloatArray:
        """The mass of that cluster."""
        return np.take_along_axis(self.mass_NS, self.cluster_N[:, None], axis=1)[:, 0]

    def most_likely(self, top: int) -> BoolArray:
        """Whether each cluster is among the ``top`` likeliest of its partition, of shape (N, S)."""
        asked_NS = np.zeros(self.mass_NS.shape, dtype=bool)
        for cluster_L in self.partition.layers:
            # Stable, so that of equals the first is asked, as ``likeliest_N`` has it.
            order_NT = np.argsort(-self.mass_NS[:, cluster_L], axis=1, kind="stable")[:, :top]
            np.put_along_axis(asked_NS, cluster_L[order_NT], True, axis=1)
        return asked_NS


def mix(mixture: Mixture, base_RK: FloatArray, specialist_RK: FloatArray, weight: float) -> FloatArray:
    """The mixture of two conditional distributions over the K classes of a cluster; all are logarithms, (R, K)."""
    if mixture == "arithmetic":
        if weight in (0, 1):  # log 0 is not finite, and one of the two is the answer
            return specialist_RK if weight else base_RK
        return np.logaddexp(base_RK + np.log1p(-weight), specialist_RK + np.log(weight)).astype(base_RK.dtype)
    base_power = 1.0 if mixture == "product" else 1 - weight
    return log_softmax(base_power * base_RK + weight * specialist_RK, axis=1)


def combine(combiner: Combiner, answer: BaseAnswer, packed_logits_NM: FloatArray, asked_NS: BoolArray) -> FloatArray:
    """The ensemble's probabilities, of shape (N, C), rows summing to 1. A row that asks no cluster is the base's.

    A class in several asked clusters (of a cover) gets the geometric mean of what they give it, before the row is
    normalised. Only the columns of asked clusters are read from ``packed_logits_NM``, and none of a cluster with one
    class or without weight.

    Raises:
        InputError: shapes disagree.
    """
    partition, n = answer.partition, len(answer.logits_NC)
    if packed_logits_NM.shape != (n, len(partition.packed_class_M)) or asked_NS.shape != (n, partition.n_clusters):
        raise InputError(
            f"specialists' logits {packed_logits_NM.shape} and asked clusters {asked_NS.shape} do not fit {n} samples "
            f"and a partition of {partition.n_classes} classes into sizes {partition.size_S.tolist()}"
        )
    # Rows that ask no cluster stay the base's bit for bit: they take no part in any arithmetic.
    proba_NC = answer.proba_NC.copy()
    row_R = np.flatnonzero(asked_NS.any(axis=1))
    if row_R.size:
        proba_NC[row_R] = _combine_rows(combiner, answer, packed_logits_NM, asked_NS, row_R)
    return proba_NC


def _combine_rows(
    combiner: Combiner, answer: BaseAnswer, packed_logits_NM: FloatArray, asked_NS: BoolArray, row_R: IntArray
) -> FloatArray:
    """The rows that ask a cluster, of shape (R, C)."""
    partition, weight_S = answer.partition, combiner.weights(answer.partition)
    runs_S = combiner.needs_specialist(partition)
    # In logarithms throughout: in float32, products of small probabilities would become 0.
    log_RC = answer.log_proba_NC[row_R]
    if not combiner.keeps_rest:
        log_RC.fill(-np.inf)
    times_RC = np.zeros(log_RC.shape, dtype=np.int16) if partition.overlaps else None
    for cluster in np.flatnonzero(asked_NS[row_R].any(axis=0)).tolist():
        place_A = np.flatnonzero(asked_NS[row_R, cluster])
        block = np.ix_(place_A, partition.classes(cluster))
        base_AK = answer.log_proba_NC[np.ix_(row_R[place_A], partition.classes(cluster))]
        mass_A1 = logsumexp(base_AK, axis=1, keepdims=True)
        value = base_AK - mass_A1
        if runs_S[cluster]:
            specialist = log_softmax(packed_logits_NM[row_R[place_A], partition.columns(cluster)], axis=1)
            value = mix(combiner.mixture, value, specialist, float(weight_S[cluster]))
        value += mass_A1
        if times_RC is not None:  # the running mean of what the clusters asked so far give these classes
            times_RC[block] += 1
            before = np.where(times_RC[block] > 1, log_RC[block], value)
            value = before + (value - before) / times_RC[block]
        log_RC[block] = value
    if combiner.temperature != 1:
        log_RC = log_softmax(log_RC / log_RC.dtype.type(combiner.temperature), axis=1)
    proba_RC = np.exp(log_RC, out=log_RC)
    # Needed where the rest is dropped, and in covers; otherwise rows sum to 1 but for rounding.
    proba_RC /= proba_RC.sum(axis=1, keepdims=True)
    return proba_RC
