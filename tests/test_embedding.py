import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

from coterie.embedding import LabelEmbedding
from coterie.errors import PartitionError


def test_the_embedding_of_a_class_is_its_weight_row() -> None:
    head = nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.arange(24.0).reshape(4, 6) + 1)
    np.testing.assert_array_equal(LabelEmbedding.from_head(head).vectors_CD, np.arange(24.0).reshape(4, 6) + 1)


def test_similarity_is_scikit_learns_cosine() -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 7))
    np.testing.assert_allclose(LabelEmbedding(vectors).similarity_CC(), cosine_similarity(vectors), atol=1e-12)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(3), "C x D matrix"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), r"classes \[1\] are not finite"),
        (np.array([[0.0, 0.0], [1.0, 1.0]]), r"classes \[0\] are zero"),
    ],
)
def test_vectors_without_a_direction_are_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        LabelEmbedding(vectors)
