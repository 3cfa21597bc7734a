"""The words of settings, options and run folders, as types. ``coterie.config`` documents their meanings."""

from __future__ import annotations

from typing import Literal

# Splits that no network is trained on.
SplitName = Literal["validation", "test"]
Modality = Literal["image", "text", "table", "features"]

# How classes are grouped, and by which label embeddings.
PartitionMethod = Literal["spectral", "kmeans", "average", "ward", "leiden", "balanced", "confusion", "random", "given"]
Linkage = Literal["average", "ward"]
Route = Literal["auto", "dense", "sparse"]
MapKind = Literal["auto", "umap", "tsne", "pca"]
# Groups with this prefix are a column of the data, not a file.
GROUPS_COLUMN = "column:"
# Sources of label embeddings, besides vectors in a file.
EMBEDDINGS = ("head", "head+bias", "means", "confusion")
VECTOR_FILES = (".npy", ".npz", ".safetensors")

# Which samples are routed, and how answers are combined.
ScoreName = Literal["entropy", "confidence", "margin", "energy", "clusters", "contested", "learned"]
CombinerName = Literal["hard", "compose", "blend", "average", "product"]
Mixture = Literal["geometric", "arithmetic", "product"]
# The combiners whose gain can be forecast.
ForecastRule = Literal["hard", "compose", "blend"]

# The rows of a comparison. base: the run's base; specialists: the run; tuned: its specialists with another rule;
# partition: specialists of other clusters; control: the same budget without a partition; dearer: a larger budget;
# other: the user's own classifier.
ContenderKind = Literal["base", "specialists", "tuned", "partition", "control", "dearer", "other"]


def embedding_parts(embedding: str) -> tuple[str, ...]:
    """Split the name of an embedding, such as ``head+bias+confusion``, into its one or two parts.

    Returns:
        Names in EMBEDDINGS, or names of files.

    Raises:
        ValueError: an unknown part, the same part twice, or more than two parts.
    """
    words = embedding.split("+")
    # The + of head+bias is not the one that joins two parts.
    if words[:1] == ["head"] and words[1:2] == ["bias"]:
        words[:2] = ["head+bias"]
    elif words[1:] == ["head", "bias"]:
        words[1:] = ["head+bias"]
    known = all(word in EMBEDDINGS or word.endswith(VECTOR_FILES) for word in words)
    if not known or len(words) > 2 or len({word.removesuffix("+bias") for word in words}) < len(words):
        raise ValueError(
            f"allowed: {', '.join(EMBEDDINGS)}, a file of vectors ({', '.join(VECTOR_FILES)}), or two of these with a "
            "+ between them"
        )
    return tuple(words)
