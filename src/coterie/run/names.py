"""Where the files of a run are, which names a file may have, and what its trainings are called."""

from __future__ import annotations

import re
from collections.abc import Iterator

from coterie.partition import Partition

MANIFEST = "manifest.json"
CHECKPOINT_FOLDER = "checkpoint"
BASE_FILE = "base.safetensors"
SPECIALISTS = "specialists/"
HEAD_FILE = "head.safetensors"
TOKENIZER_FILE = "tokenizer.json"
EXAMPLES_FILE = "examples.safetensors"
STAGE_LOGITS = "logits/stages/"
EXAMPLE_TEXTS_FILE = "examples.json"
# Not named in the manifest: a run is whole without it, and it names files of the machine.
SKIPPED_FILE = "logs/skipped.txt"

# Letters, digits and a few signs that no file system takes for something else; no part begins with a dot, as "..", the
# lock and half-written files do.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
LONGEST_NAME = 200


def check_file_name(name: str) -> str:
    """Return the name of a file of a run: a path below the folder, with slashes.

    Raises:
        ValueError: it could be a file elsewhere, the manifest, the lock, or no file.
    """
    allowed = len(name) <= LONGEST_NAME and _FILE_NAME.fullmatch(name) and name.lower() != MANIFEST
    if not allowed:
        raise ValueError(
            f"{name[:LONGEST_NAME]!r} is no name of a file in a run; allowed: letters, digits, '_', '.', '-' and '/', "
            f"at most {LONGEST_NAME}, no part beginning with a dot, not {MANIFEST}"
        )
    return name


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
