import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from coterie.errors import PartitionError
from coterie.partition import leiden, leiden_partition
from planted import planted_vectors


def test_leiden_chooses_the_number_itself() -> None:
    vectors_CD, truth = planted_vectors(400, 8, 0.8)
    assert adjusted_rand_score(leiden_partition(vectors_CD).cluster_of_class_C, truth) > 0.95


def test_leiden_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leiden, "find_spec", lambda name: None)
    with pytest.raises(PartitionError, match=r"pip install 'coterie\[partition\]'"):
        leiden_partition(np.eye(4), 2)
