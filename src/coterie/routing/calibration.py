"""Temperatures from held-out logits. Arrays only.

Dividing logits by a temperature changes no answer of a single network, but decides how much each counts when several
are combined (Guo et al. 2017, "On Calibration of Modern Neural Networks").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coterie.arrays import FloatArray, IntArray
from coterie.errors import InputError
from coterie.partition import Partition

# Bounds of the search: three widths of the prior on either side of 1, as e^3 is 20.
LOWEST, HIGHEST = 0.05, 20.0


@dataclass(frozen=True)
class Temperatures:
    """Divisors of the logits of the base and of each specialist; 1 leaves logits as they are.

    ``specialist_S``: one temperature per cluster, or one for all.

    Raises:
        InputError: a temperature is not a positive, finite number.
    """

    base: float = 1.0
    specialist_S: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not all(0 < t < np.inf for t in (self.base, *self.specialist_S)) or not self.specialist_S:
            raise InputError(f"temperatures must be positive and finite; got {self.base} and {self.specialist_S}")

    def of_columns(self, partition: Partition) -> FloatArray:
        """The temperature of each packed column, of shape (M,)."""
        return np.repeat(np.broadcast_to(self.specialist_S, partition.n_clusters), partition.size_S)


def temperature(logits_NC: FloatArray, label_N: IntArray) -> float:
    """The temperature under which the labels are most likely.

    A weak prior, normal with width 1 on the temperature's logarithm, keeps a handful of samples from an extreme
    temperature. Without a sample, the temperature is 1.

    Raises:
        InputError: a logit is not finite.
    """
    # Imported here: it takes its time, and an ensemble that is loaded needs none of it.
    from scipy.optimize import minimize_scalar

    if not np.isfinite(logits_NC).all():
        raise InputError("a temperature needs finite logits; some are NaN or infinite")
    if len(label_N) == 0:
        return 1.0
    # The largest logit becomes 0, so that no exponential overflows; softmax does not change.
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    # The true classes' part of the loss is linear in 1 / temperature, so it is summed once.
    own_sum = float(np.take_along_axis(shifted_NC, label_N[:, None], axis=1).sum(dtype=np.float64))

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        normaliser_N = np.log(np.exp(shifted_NC * shifted_NC.dtype.type(inverse)).sum(axis=1))
        return float(normaliser_N.sum(dtype=np.float64)) - inverse * own_sum + log_temperature**2 / 2

    # In logarithm, so that halving and doubling are equal steps; a thousandth of it changes no probability to speak of.
    bounds = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x))


def fit_temperatures(
    base_NC: FloatArray, packed_NM: FloatArray, label_N: IntArray, partition: Partition
) -> Temperatures:
    """Fit the base's temperature on all samples, and each specialist's on the samples of its own classes."""
    specialist_S = []
    for cluster in range(partition.n_clusters):
        rows, local = partition.own_rows(cluster, label_N)
        specialist_S.append(temperature(packed_NM[rows, partition.columns(cluster)], local))
    return Temperatures(temperature(base_NC, label_N), tuple(specialist_S))
