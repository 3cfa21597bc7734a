import numpy as np
import pytest
import torch

from coterie.data.splits import Split, Splits
from coterie.errors import DataError
from coterie.inputs import FeaturePreprocessing, MemorySamples, Scale
from coterie.labels import LabelSpace

PREPROCESSING = FeaturePreprocessing(Scale((0.0,), (1.0,)))


def split_of(*labels: int) -> Split:
    """Samples whose only feature is their number."""
    return Split(MemorySamples(torch.arange(len(labels), dtype=torch.float32)[:, None]), torch.tensor(labels))


def splits_of(train: Split, test: Split) -> Splits:
    return Splits(train, train, test, LabelSpace(("a", "b", "c")), PREPROCESSING, "numbers")


def test_as_many_labels_as_samples_are_needed_and_one_at_least() -> None:
    with pytest.raises(DataError, match="got 2 samples, 3 labels"):
        Split(MemorySamples(torch.zeros(2, 1)), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="got 0 samples, 0 labels"):
        Split(MemorySamples(torch.zeros(0, 1)), torch.zeros(0, dtype=torch.int64))


def test_the_samples_of_some_classes_are_labelled_by_their_place_among_these() -> None:
    some = split_of(2, 0, 1, 2, 0).of_classes(np.array([2, 1]))
    assert some.samples.read(torch.arange(len(some))).flatten().tolist() == [0, 2, 3]
    assert some.labels_N.tolist() == [0, 1, 0]


def test_the_training_samples_of_each_class_are_counted() -> None:
    assert splits_of(split_of(2, 0, 1, 2, 2), split_of(0)).train_counts == (1, 1, 3)


def test_a_class_without_a_training_sample_and_a_label_of_no_class_are_named() -> None:
    with pytest.raises(DataError, match=r"no training sample for 1 class: b"):
        splits_of(split_of(0, 2), split_of(0))
    for label in (3, -1):
        with pytest.raises(DataError, match=r"test has a class index outside 0\.\.2"):
            splits_of(split_of(0, 1, 2), split_of(label))
