"""Where the files of a run are, and what its trainings are called."""

from __future__ import annotations

from collections.abc import Iterator

from coterie.partition import Partition

BASE_FILE = "base.safetensors"
SPECIALISTS = "specialists/"
HEAD_FILE = "head.safetensors"
TOKENIZER_FILE = "tokenizer.json"
EXAMPLES_FILE = "examples.safetensors"
STAGE_LOGITS = "logits/stages/"
EXAMPLE_TEXTS_FILE = "examples.json"


def specialist_files(partition: Partition) -> tuple[str, ...]:
    """Where the weights of each cluster's specialist are; a cluster of one class has none."""
    return tuple(f"{SPECIALISTS}{n_clusters}/{place}.safetensors" for place, n_clusters in _places(partition))


def specialist_titles(partition: Partition) -> tuple[str, ...]:
    """What each cluster's specialist is called, in the history too."""
    return tuple(f"specialist {place} of {n_clusters}" for place, n_clusters in _places(partition))


def _places(partition: Partition) -> Iterator[tuple[int, int]]:
    """Where each cluster stands among those of its layer, and how many these are."""
    return ((place, len(cluster_L)) for cluster_L in partition.layers for place in range(len(cluster_L)))


def outputs_file(split: str) -> str:
    """Where the logits of a split are."""
    return f"logits/{split}.safetensors"


def stage_logits_folder(split: str) -> str:
    """Where the logits of each network on a split are kept until they are put together."""
    return f"{STAGE_LOGITS}{split}/"


def base_logits_file(split: str) -> str:
    """Where the base's own logits of a split are until the run is finished."""
    return f"{stage_logits_folder(split)}{BASE_FILE}"
