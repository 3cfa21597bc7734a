"""Settings of the stages of a run: training, partition, gate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from coterie.config.settings import Settings
from coterie.vocabulary import GROUPS_COLUMN, CombinerName, PartitionMethod, ScoreName, embedding_parts


class TrainingSettings(Settings):
    """Training of a network."""

    epochs: int = Field(25, ge=1, le=1_000_000, description="passes over the training samples")
    batch_size: int = Field(128, ge=2, le=2**24, description="samples per step")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum, or AdamW")
    learning_rate: float = Field(0.2, gt=0, description="peak of the schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(
        5e-4, ge=0, description="weight decay of weights with two or more dimensions; norms and biases have none"
    )
    schedule: Literal["one-cycle", "cosine"] = Field(
        "one-cycle", description="one-cycle (with warm-up) | cosine (decay to 0)"
    )
    warmup_share: float = Field(0.2, ge=0, lt=1, description="share of the steps in which one-cycle warms up")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability mass that is spread over all classes")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; None: not clipped")
    average_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of a running average of the weights, which is the result (such as 0.99); 0: the last "
        "weights",
    )
    average_warmup: bool = Field(
        False, description="with average_decay: the average forgets its first steps sooner, as short trainings need it"
    )
    head_rate: float = Field(
        1.0, gt=0, le=1e6, description="learning rate of the head, in those of the rest: a new head learns from nothing"
    )
    mixup: float = Field(
        0.0, ge=0, le=1000, description="images: alpha of mixup, which trains on weighted means of two images; 0: none"
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="images: alpha of cutmix, which pastes a part of one image into another; 0: none",
    )


# 32 stores a weight as it is. A Huffman code takes at least one bit a number, so below 1.2 next to nothing is left of a
# difference; and the numbers that it codes are bytes.
EXACT_BITS, FEWEST_BITS, MOST_BITS = 32, 1.2, 8


class SpecialistSettings(TrainingSettings):
    """Training of each specialist."""

    trainable: str = Field(
        "all",
        description="part of the network that is trained: all | head | last-N (the last N parts, the head included) | "
        "NAME (a module, and all that runs after it) | lora-R (an adapter of rank R beside each layer, and the head; "
        "needs peft); the rest stays as in the base, running statistics included. Or probe: no copy of the base but "
        "the network with the weights of --init, whose head alone is fitted, by logistic regression",
    )
    views: int = Field(
        4,
        ge=0,
        le=10_000,
        description="augmented views of each sample for which the output of the untrained part is computed, once for "
        "all epochs; 0: computed anew in each epoch; not used if all is trained",
    )
    bits: float = Field(
        EXACT_BITS,
        description="average bits in which each difference from the base's weights is stored: 1.2 to 8; 32: weights "
        "are stored as they are",
    )

    batch_norm: Literal["train", "frozen"] = Field(
        "train",
        description="statistics of batch norms: train (those of the cluster's batches, and running ones that follow "
        "them) | frozen (the base's, as where a fine-tuned network is trained a little further)",
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="epochs without a lower loss on the cluster's validation samples after which training stops, with "
        "the weights of the best epoch; the learning rate falls as over all epochs; None: all epochs",
    )

    @field_validator("patience")
    @classmethod
    def _one_result(cls, patience: int | None, info: ValidationInfo) -> int | None:
        if patience is not None and info.data.get("average_decay"):
            raise ValueError("the result is the best epoch's weights or an average (average_decay): one or the other")
        return patience

    @field_validator("bits")
    @classmethod
    def _allowed_bits(cls, bits: float) -> float:
        if bits != EXACT_BITS and not FEWEST_BITS <= bits <= MOST_BITS:
            raise ValueError(f"must be from {FEWEST_BITS} to {MOST_BITS}, or {EXACT_BITS}")
        return bits

    @property
    def kept_views(self) -> int:
        """Number of views that are kept: at most one per epoch; 0: none."""
        return min(self.views, self.epochs)


class PartitionSettings(Settings):
    """Partition of the classes by their label embeddings."""

    method: PartitionMethod = Field(
        "spectral",
        description="clustering of the label embeddings: spectral (the paper's) | kmeans (spherical) | average, ward "
        "(agglomerative) | leiden | balanced (clusters of limited size) | confusion (classes that are confused on "
        "validation) | random (a control, with the sizes of spectral) | given (by --partition.groups)",
    )
    clusters: tuple[int, ...] = Field(
        (9,), min_length=1, description="number of clusters; of several numbers, the best on validation is taken"
    )
    together: bool = Field(
        False,
        description="with several numbers of clusters: keep the specialists of all partitions, and ask one of each "
        "partition",
    )
    least_open: float = Field(
        0.0,
        ge=0,
        le=1,
        description="of the base's errors on validation, the share that has to lie inside the likeliest cluster, where "
        "its specialist could put them right; with less, one cluster of all classes is taken instead, with the epochs "
        "of all partitions, and the bits of all their specialists, at most 8; 0: never",
    )
    groups: str | None = Field(
        None,
        validate_default=True,
        description="method given only: column:NAME (a further label column of the data), or a file with a group per "
        "class: lines, a .json list, or FILE.csv:COLUMN",
    )
    embedding: str = Field(
        "head",
        description="vector of each class: head (its weight row, the paper's) | head+bias | means (of the head's "
        "inputs) | confusion (on validation) | FILE (.npy, .npz, .safetensors: one vector per class, such as text "
        "embeddings of the names); A+B mixes two of these",
    )
    overlap: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="further memberships of classes, in clusters with which the base confuses them, as a share of the "
        "number of classes; each costs training",
    )
    max_size: int | None = Field(
        None,
        ge=1,
        le=2**31,
        description="balanced and confusion only: largest number of classes per cluster; None: set by the number of "
        "clusters",
    )

    @field_validator("groups")
    @classmethod
    def _groups_if_given(cls, groups: str | None, info: ValidationInfo) -> str | None:
        if (info.data.get("method") == "given") != (groups is not None):
            raise ValueError("method given needs groups, from a file or a column; other methods take none")
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
    """When specialists are asked, and how their answers are combined; `auto`: chosen on validation."""

    score: Literal["auto", ScoreName] = Field(
        "auto",
        description="score by which samples are routed: entropy (the paper's, in nats) | confidence (1 - largest "
        "probability) | margin | energy | clusters (entropy over clusters) | contested (probability at stake within "
        "the likely cluster) | learned; auto: chosen on validation",
    )
    combiner: Literal["auto", CombinerName] = Field(
        "auto",
        description="hard (the specialist decides: the paper's rule) | compose (P_base(cluster) x P_specialist(class "
        "| cluster)) | blend, average, product (base and specialist mixed within the cluster); auto: chosen on "
        "validation",
    )
    top: int | None = Field(
        None,
        ge=1,
        le=2**31,
        description="number of likely clusters whose specialists are asked; None: 1 or 2, chosen on validation",
    )
    threshold: float | None = Field(
        None,
        ge=-1e12,
        le=1e12,
        description="samples with this score or more are routed; None: chosen on validation",
        validate_default=True,
    )
    passes: float | None = Field(
        None, ge=1, description="limit of the average forward passes per sample, the base's included; None: no limit"
    )
    routed: float | None = Field(
        None, ge=0, le=1, description="limit of the share of samples that are routed; None: no limit"
    )
    risk: float | None = Field(
        None, ge=0, le=1, description="bound of the error rate (confidence 95 %), met at the least cost; None: no bound"
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
