"""The stages of a run: training, grouping, routing."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from coterie.config.settings import Settings
from coterie.vocabulary import GROUPS_COLUMN, CombinerName, PartitionMethod, ScoreName, embedding_parts


class TrainingSettings(Settings):
    """How a network is trained."""

    epochs: int = Field(25, ge=1, description="passes over the training images")
    batch_size: int = Field(128, ge=2, description="images per step")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum, or AdamW")
    learning_rate: float = Field(0.2, gt=0, description="the schedule's peak")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum")
    weight_decay: float = Field(
        5e-4, ge=0, description="on weights of two or more dimensions; never on norms and biases"
    )
    schedule: Literal["one-cycle", "cosine"] = Field("one-cycle", description="with warm-up, or a plain decay to 0")
    warmup_share: float = Field(0.2, ge=0, lt=1, description="share of the steps in which one-cycle rises")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="mass spread over all classes")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; unclipped if left out")
    average_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="the result is a running average of the weights, of which each step keeps this share, such as "
        "0.99; 0: the last weights",
    )


# Of a kept difference: as it is; and otherwise from this many to that many, on average.
EXACT_BITS, FEWEST_BITS, MOST_BITS = 32, 1.5, 8


class SpecialistSettings(TrainingSettings):
    """How each specialist is trained, and which part of it."""

    trainable: str = Field(
        "all",
        description="all | head | last-N (the last N parts, of which the head is one) | NAME (a module of the network, "
        "with all that runs after it) | lora-R (an adapter of rank R beside each layer, and the head; needs peft); "
        "what is not trained stays the base's, running statistics before it included",
    )
    views: int = Field(
        4,
        ge=0,
        description="where not all is trained: augmented views of each sample for which the output of the part before "
        "is computed, once for all epochs; 0: anew in each epoch",
    )
    bits: float = Field(
        EXACT_BITS,
        description="of each difference from the base's weights that is kept, on average: 1.5 to 8; 32 keeps the "
        "weights as they are",
    )

    patience: int | None = Field(
        None,
        ge=1,
        description="epochs without a lower loss on the cluster's validation samples after which a specialist stops, "
        "with the weights of the best epoch; all epochs if left out. The learning rate falls as over all epochs",
    )

    @field_validator("patience")
    @classmethod
    def _one_result(cls, patience: int | None, info: ValidationInfo) -> int | None:
        if patience is not None and info.data.get("average_decay"):
            raise ValueError("the weights of the best epoch, or their average (average_decay): one or the other")
        return patience

    @field_validator("bits")
    @classmethod
    def _allowed_bits(cls, bits: float) -> float:
        if bits != EXACT_BITS and not FEWEST_BITS <= bits <= MOST_BITS:
            raise ValueError(f"must be from {FEWEST_BITS} to {MOST_BITS}, or {EXACT_BITS}")
        return bits

    @property
    def kept_views(self) -> int:
        """Views that are kept: no more than there are epochs to draw them in; 0: none."""
        return min(self.views, self.epochs)


class PartitionSettings(Settings):
    """How classes are grouped by their label embeddings."""

    method: PartitionMethod = Field(
        "spectral",
        description="spectral (the paper's) | kmeans (spherical) | average, ward (agglomerative) | leiden | "
        "balanced (of limited size) | confusion (what validation confuses) | random (spectral's sizes: the control) | "
        "given (by --partition.groups)",
    )
    clusters: tuple[int, ...] = Field(
        (9,), min_length=1, description="number of clusters; of several, the best on validation is taken"
    )
    together: bool = Field(
        False,
        description="with several numbers of clusters: all partitions keep their specialists, and a sample asks one "
        "of each partition",
    )
    groups: str | None = Field(
        None,
        validate_default=True,
        description="given only: column:NAME, a further label column of the data; or a file with a group's name per "
        "class: lines, a .json list, or FILE.csv:COLUMN",
    )
    embedding: str = Field(
        "head",
        description="what stands for a class: head (its weight row: the paper's) | head+bias | means (of what enters "
        "the head) | confusion (on validation) | FILE (.npy, .npz, .safetensors: a vector a class, such as text "
        "embeddings of the names); two of these with a + between them are mixed",
    )
    overlap: float = Field(
        0.0,
        ge=0,
        description="classes that join a further cluster, one that the base takes their samples for: how many such "
        "memberships, as a share of all classes; each costs training",
    )
    max_size: int | None = Field(
        None, ge=1, description="balanced and confusion only: classes per cluster at most; as S suggests if left out"
    )

    @field_validator("groups")
    @classmethod
    def _groups_if_given(cls, groups: str | None, info: ValidationInfo) -> str | None:
        if (info.data.get("method") == "given") != (groups is not None):
            raise ValueError("method given needs groups, from a file or a column, and no other method takes any")
        if groups == GROUPS_COLUMN:
            raise ValueError("column: needs the column's name")
        return groups

    @field_validator("embedding")
    @classmethod
    def _known_parts(cls, embedding: str) -> str:
        embedding_parts(embedding)
        return embedding

    @field_validator("clusters", mode="before")
    @classmethod
    def _one_or_many(cls, clusters: Any) -> Any:
        return (clusters,) if isinstance(clusters, int) else clusters

    @field_validator("clusters")
    @classmethod
    def _at_least_one(cls, clusters: tuple[int, ...]) -> tuple[int, ...]:
        if min(clusters) < 1:
            raise ValueError("each must be at least 1 (and at most the number of classes)")
        if len(set(clusters)) < len(clusters):
            raise ValueError("each may be given once")
        return clusters


class GateSettings(Settings):
    """When specialists are asked, and how their answers are used. What is `auto` is chosen on validation."""

    score: Literal["auto", ScoreName] = Field(
        "auto",
        description="what is routed: entropy (the paper's, in nats) | confidence (1 - largest probability) | margin | "
        "energy | clusters (entropy over clusters) | contested (what is at stake in the likely cluster) | learned",
    )
    combiner: Literal["auto", CombinerName] = Field(
        "auto",
        description="hard: the specialist decides (the paper's rule); compose: P_base(cluster) x P_specialist(class | "
        "cluster); blend, average, product: base and specialist mixed within the cluster",
    )
    top: int | None = Field(None, ge=1, description="likely clusters whose specialists are asked; 1 or 2 if left out")
    threshold: float | None = Field(
        None, description="route at this score and above; chosen on validation if left out", validate_default=True
    )
    passes: float | None = Field(None, ge=1, description="limit: forward passes per image on average, the base's too")
    routed: float | None = Field(None, ge=0, le=1, description="limit: share of images that are routed")
    risk: float | None = Field(
        None, ge=0, le=1, description="bound the error rate by this (confidence 95 %) at the least cost"
    )

    @field_validator("threshold")
    @classmethod
    def _threshold_of_a_score(cls, threshold: float | None, info: ValidationInfo) -> float | None:
        if threshold is not None and info.data.get("score") == "auto":
            raise ValueError("a threshold needs a score by name: each has a scale of its own")
        return threshold

    @field_validator("passes", "routed", "risk")
    @classmethod
    def _nothing_beside_a_threshold(cls, limit: float | None, info: ValidationInfo) -> float | None:
        if limit is not None and info.data.get("threshold") is not None:
            raise ValueError("a threshold leaves nothing to choose: give one or the other")
        return limit
