import pytest

from coterie.vocabulary import EMBEDDINGS, embedding_parts


@pytest.mark.parametrize(
    ("embedding", "parts"),
    [
        *((name, (name,)) for name in EMBEDDINGS),
        ("names.npy", ("names.npy",)),
        ("head+means", ("head", "means")),
        ("head+bias+confusion", ("head+bias", "confusion")),
        ("confusion+head+bias", ("confusion", "head+bias")),
        ("means+some/names.safetensors", ("means", "some/names.safetensors")),
    ],
)
def test_an_embedding_is_one_source_or_two(embedding: str, parts: tuple[str, ...]) -> None:
    assert embedding_parts(embedding) == parts


@pytest.mark.parametrize(
    "embedding", ["", "tail", "bias", "head+head", "head+head+bias", "head+means+confusion", "n.csv"]
)
def test_anything_else_is_refused_and_what_is_allowed_is_named(embedding: str) -> None:
    with pytest.raises(ValueError, match="allowed: head, head\\+bias, means, confusion, a file of vectors"):
        embedding_parts(embedding)
