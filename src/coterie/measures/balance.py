"""Figures for classes that are not equally frequent: each class counts alike, or by groups of class frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from coterie.arrays import BoolArray, IntArray

# Training samples of a class: more than MANY are many, fewer than FEW few (Liu et al. 2019, arXiv 1904.05160).
MANY, FEW = 100, 20
# Below this ratio of the largest to the smallest class there is no long tail.
LEAST_IMBALANCE = 2.0


@dataclass(frozen=True)
class FrequencyRow:
    """Accuracies on the test samples of classes with ``fewest`` to ``most`` training samples, as shares of 1."""

    name: str
    n_classes: int
    fewest: int
    most: int
    n_samples: int
    base_top1: float
    ensemble_top1: float


@dataclass(frozen=True)
class Balance:
    """Balanced accuracy, the mean recall over classes, and macro-F1, the mean F1 over classes.

    ``groups``: many, medium, few; empty where classes are about equally frequent, or their frequency is not known.
    """

    base_balanced: float
    ensemble_balanced: float
    base_macro_f1: float
    ensemble_macro_f1: float
    groups: tuple[FrequencyRow, ...] = ()

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Balance:
        """Read nested plain values, as JSON holds them."""
        return cls(**{**values, "groups": tuple(FrequencyRow(**row) for row in values["groups"])})


def measure_balance(
    label_N: IntArray, base_N: IntArray, ensemble_N: IntArray, train_count_C: IntArray | None
) -> Balance:
    """Measure the answers of base and ensemble.

    Args:
        label_N: true classes.
        base_N: the base's answers.
        ensemble_N: the ensemble's answers.
        train_count_C: training samples of each class; None: not known.
    """
    rows = []
    if train_count_C is not None:
        for name, classes in frequency_groups(train_count_C):
            rows.append(_row(name, classes, train_count_C[classes], label_N, base_N == label_N, ensemble_N == label_N))
    return Balance(
        balanced_accuracy(label_N, base_N),
        balanced_accuracy(label_N, ensemble_N),
        macro_f1(label_N, base_N),
        macro_f1(label_N, ensemble_N),
        tuple(rows),
    )


def _row(
    name: str, classes: IntArray, count_K: IntArray, label_N: IntArray, base_N: BoolArray, ensemble_N: BoolArray
) -> FrequencyRow:
    """The row of a group of classes; ``base_N`` and ``ensemble_N``: whether each sample is answered rightly."""
    in_group_N = np.isin(label_N, classes)
    accuracies = (float(right_N[in_group_N].mean()) if in_group_N.any() else 0.0 for right_N in (base_N, ensemble_N))
    return FrequencyRow(name, len(classes), int(count_K.min()), int(count_K.max()), int(in_group_N.sum()), *accuracies)


def balanced_accuracy(label_N: IntArray, answer_N: IntArray) -> float:
    """Mean recall over the classes that occur among the labels."""
    n_classes = int(max(label_N.max(), answer_N.max())) + 1
    count_C = np.bincount(label_N, minlength=n_classes)
    right_C = np.bincount(label_N[label_N == answer_N], minlength=n_classes)
    # A class without a label has no recall, and is left out as scikit-learn leaves it out.
    return float((right_C[count_C > 0] / count_C[count_C > 0]).mean())


def macro_f1(label_N: IntArray, answer_N: IntArray) -> float:
    """Mean F1 over the classes that occur among labels or answers."""
    n_classes = int(max(label_N.max(), answer_N.max())) + 1
    right_C = np.bincount(label_N[label_N == answer_N], minlength=n_classes)
    named_C = np.bincount(label_N, minlength=n_classes) + np.bincount(answer_N, minlength=n_classes)
    return float((2 * right_C[named_C > 0] / named_C[named_C > 0]).mean())


def frequency_groups(train_count_C: IntArray) -> list[tuple[str, IntArray]]:
    """Classes with many, a medium number of, and few training samples; groups without a class are left out.

    Where all classes fall in one of the literature's groups, the groups are thirds of the classes by frequency. There
    are no groups where the largest class is less than twice the smallest.
    """
    if train_count_C.max() < LEAST_IMBALANCE * train_count_C.min():
        return []
    kinds = (train_count_C > MANY, (train_count_C >= FEW) & (train_count_C <= MANY), train_count_C < FEW)
    groups = [np.flatnonzero(kind_C) for kind_C in kinds]
    if sum(len(classes) > 0 for classes in groups) < 2:
        groups = [np.sort(part) for part in np.array_split(np.argsort(-train_count_C, kind="stable"), 3)]
    return [(name, classes) for name, classes in zip(("many", "medium", "few"), groups, strict=True) if len(classes)]
