"""What a base may gain though nothing is trained: by its answers, and by its features. Arrays only."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from coterie.arrays import FloatArray, IntArray

N_NEIGHBOURS = 10
# Of a neighbour's weight, e to the minus squared distance over this; features have length 1.
WIDTH = 0.1
# What a class without a neighbour has, so that its logarithm is finite.
LEAST_SHARE = 1e-4
TINY = 1e-12


def class_offsets(logits_NC: FloatArray, label_N: IntArray) -> FloatArray:
    """A number for each class, of shape (C,), to be added to logits: where a class is predicted more often than it is
    there, it is lowered. A step of iterative scaling (Darroch and Ratcliff 1972), with one sample more of each class.
    """
    n_classes = logits_NC.shape[1]
    there_C = np.bincount(label_N, minlength=n_classes)
    offset_C: FloatArray = np.log((there_C + 1) / (softmax(logits_NC, axis=1).sum(axis=0) + 1)).astype(logits_NC.dtype)
    return offset_C


def neighbour_logits(known_ND: FloatArray, label_N: IntArray, asked_RD: FloatArray, n_classes: int) -> FloatArray:
    """Logarithms of the classes' shares among the nearest known samples, by cosine, weighted by their distance.

    Args:
        known_ND: features of samples whose classes are known.
        label_N: these.
        asked_RD: features of samples to answer.
        n_classes: C.

    Returns:
        float32 of shape (R, C).
    """
    from sklearn.neighbors import NearestNeighbors

    known_ND, asked_RD = _unit(known_ND), _unit(asked_RD)
    index = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(known_ND)), algorithm="brute").fit(known_ND)
    distance_RK, place_RK = index.kneighbors(asked_RD)
    weight_RK = np.exp(-np.square(distance_RK) / WIDTH)
    share_RC = np.zeros((len(asked_RD), n_classes))
    np.add.at(share_RC, (np.arange(len(asked_RD))[:, None], label_N[place_RK]), weight_RK)
    # Of equal weights where all are too far for any: then none says anything.
    total_R1 = share_RC.sum(axis=1, keepdims=True)
    share_RC = np.where(total_R1 > TINY, share_RC / np.maximum(total_R1, TINY), 1 / n_classes)
    logits_RC: FloatArray = np.log(share_RC + LEAST_SHARE).astype(np.float32)
    return logits_RC


def mixing_weight(first_NC: FloatArray, second_NC: FloatArray, label_N: IntArray) -> float:
    """The weight of the second, from 0 to 1, with which the mean of two classifiers' probabilities has the least log
    loss on these labels.
    """
    first_N, second_N = (each[np.arange(len(label_N)), label_N].astype(np.float64) for each in (first_NC, second_NC))

    def loss(weight: float) -> float:
        return -float(np.log((1 - weight) * first_N + weight * second_N + TINY).mean())

    return float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x)


def _unit(feature_ND: FloatArray) -> FloatArray:
    unit_ND: FloatArray = feature_ND / np.maximum(np.linalg.norm(feature_ND, axis=1, keepdims=True), TINY)
    return unit_ND
