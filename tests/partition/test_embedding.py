import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

from coterie.errors import DataError, PartitionError
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline.embedding import LabelSources


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


def test_the_bias_is_one_more_dimension() -> None:
    head = torch.nn.Linear(3, 4)
    vectors = LabelEmbedding.from_head(head, bias=True).vectors_CD
    np.testing.assert_allclose(vectors[:, :3], head.weight.detach().numpy())
    np.testing.assert_allclose(vectors[:, 3], head.bias.detach().numpy())
    assert LabelEmbedding.from_head(torch.nn.Linear(3, 4, bias=False), bias=True).vectors_CD.shape == (4, 3)


def test_class_means_are_taken_around_their_own_mean() -> None:
    rng = np.random.default_rng(0)
    feature_ND, label_N = rng.normal(size=(50, 3)), rng.permutation(np.arange(50) % 4)
    means = np.stack([feature_ND[label_N == k].mean(axis=0) for k in range(4)])
    found = LabelEmbedding.from_class_means(feature_ND, label_N, 4).vectors_CD
    np.testing.assert_allclose(found, means - means.mean(axis=0))
    with pytest.raises(PartitionError, match=r"no samples of classes \[4\]"):
        LabelEmbedding.from_class_means(feature_ND, label_N, 5)
    with pytest.raises(PartitionError, match="do not fit 3 classes; allowed: 0 to 2"):
        LabelEmbedding.from_class_means(feature_ND, label_N, 3)


def test_classes_that_are_confused_have_like_confusion_rows() -> None:
    proba_NC = np.array([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]])
    similarity_CC = LabelEmbedding.from_confusion(proba_NC, np.array([0, 1, 2])).similarity_CC()
    expected = np.sqrt(0.5 * 0.4) + np.sqrt(0.5 * 0.6)
    np.testing.assert_allclose(similarity_CC, [[1, expected, 0], [expected, 1, 0], [0, 0, 1]], atol=1e-12)


def test_a_mixture_has_the_mean_of_the_cosines() -> None:
    rng = np.random.default_rng(0)
    one, other = LabelEmbedding(rng.normal(size=(5, 3))), LabelEmbedding(rng.normal(size=(5, 7)))
    mixed = one.mixed_with(other, 0.3).similarity_CC()
    np.testing.assert_allclose(mixed, 0.7 * one.similarity_CC() + 0.3 * other.similarity_CC())
    with pytest.raises(PartitionError, match="of 5 and of 4 classes"):
        one.mixed_with(LabelEmbedding(np.eye(4)))
    with pytest.raises(PartitionError, match=r"share of 1.5 is not allowed; allowed: 0 to 1"):
        one.mixed_with(other, 1.5)


@pytest.mark.parametrize("n_samples", [200, 8])
def test_cosines_of_logits_are_their_correlations(n_samples: int) -> None:
    logits_NC = np.random.default_rng(0).normal(size=(n_samples, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    embedding = LabelEmbedding.from_logits(logits_NC.astype(np.float32))
    assert embedding.vectors_CD.shape == (12, min(n_samples, 12))
    expected = np.corrcoef(logits_NC - logits_NC.mean(axis=1, keepdims=True), rowvar=False)
    np.testing.assert_allclose(embedding.similarity_CC(), expected, atol=1e-4)


def test_a_number_added_to_all_logits_of_a_sample_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    logits_NC = rng.normal(size=(100, 5))
    shifted = LabelEmbedding.from_logits(logits_NC + 50 * rng.normal(size=(100, 1)))
    np.testing.assert_allclose(
        shifted.similarity_CC(), LabelEmbedding.from_logits(logits_NC).similarity_CC(), atol=1e-4
    )


def test_a_class_whose_logit_never_moves_has_no_direction() -> None:
    logits_NC = np.random.default_rng(0).normal(size=(50, 4))
    logits_NC[:, 2] = logits_NC.mean(axis=1)  # always the mean of its sample
    logits_NC[:, 2] = (logits_NC.sum(axis=1) - logits_NC[:, 2]) / 3
    with pytest.raises(PartitionError, match=r"classes \[2\] are the same for all samples"):
        LabelEmbedding.from_logits(logits_NC)


def test_sources_give_every_embedding_and_mixtures_of_two(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows_CD, bias_C, given_CD = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(4, 6))
    label_N, proba_NC, feature_ND = np.arange(40) % 4, rng.dirichlet(np.ones(4), size=40), rng.normal(size=(40, 3))
    np.save(tmp_path / "names.npy", given_CD.astype(np.float32))
    sources = LabelSources(rows_CD, bias_C, proba_NC, label_N, lambda: feature_ND)
    one = {
        "head": LabelEmbedding(rows_CD),
        "head+bias": LabelEmbedding(np.column_stack([rows_CD, bias_C])),
        "means": LabelEmbedding.from_class_means(feature_ND, label_N, 4),
        "confusion": LabelEmbedding.from_confusion(proba_NC, label_N),
        str(tmp_path / "names.npy"): LabelEmbedding(given_CD),
    }
    for embedding, expected in one.items():
        np.testing.assert_allclose(sources.embed(embedding).similarity_CC(), expected.similarity_CC(), atol=1e-6)
    for first, second in (("head+bias", "means"), ("confusion", "head+bias"), ("means", str(tmp_path / "names.npy"))):
        mean_CC = (one[first].similarity_CC() + one[second].similarity_CC()) / 2
        np.testing.assert_allclose(sources.embed(f"{first}+{second}").similarity_CC(), mean_CC, atol=1e-6)


def test_sources_that_lack_something_say_so(tmp_path) -> None:
    rows_CD, label_N = np.eye(4), np.array([0, 1, 2])
    np.save(tmp_path / "three.npy", np.ones((3, 2)))
    assert LabelSources(rows_CD).embed("head+bias").vectors_CD.shape == (4, 4)  # a head without biases
    with pytest.raises(PartitionError, match="confusion needs validation samples"):
        LabelSources(rows_CD).embed("head+confusion")
    with pytest.raises(PartitionError, match="of logits alone nobody can tell"):
        LabelSources(rows_CD, None, np.eye(4)[:3], label_N).embed("means")
    with pytest.raises(PartitionError, match=r"no samples of classes \[3\]"):
        LabelSources(rows_CD, None, np.eye(4)[:3], label_N).embed("confusion")
    with pytest.raises(DataError, match=r"three.npy has shape \(3, 2\); 4 vectors are needed"):
        LabelSources(rows_CD).embed(str(tmp_path / "three.npy"))
