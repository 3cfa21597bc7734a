"""Label vectors -> a map of classes in two dimensions, near to near."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from coterie.arrays import FloatArray
from coterie.errors import PartitionError
from coterie.vocabulary import MapKind

# Beyond these numbers of classes the method takes minutes on two cores.
UMAP_UP_TO = 50_000
TSNE_UP_TO = 3000
# Too few for the neighbourhoods that UMAP, and that t-SNE, look at.
UMAP_FROM = 50
TSNE_FROM = 6


def choose_map(n_classes: int, kind: MapKind = "auto") -> Literal["umap", "tsne", "pca"]:
    """UMAP where it is installed and classes are not very few, else t-SNE, else principal components.

    Raises:
        PartitionError: UMAP was asked for and is not installed.
    """
    has_umap = find_spec("umap") is not None
    if kind == "umap" and not has_umap:
        raise PartitionError("a UMAP map needs umap-learn: pip install 'coterie[partition]'; allowed: tsne, pca, auto")
    if n_classes < TSNE_FROM:
        return "pca"
    if kind != "auto":
        return kind
    if has_umap and UMAP_FROM <= n_classes <= UMAP_UP_TO:
        return "umap"
    return "tsne" if n_classes <= TSNE_UP_TO else "pca"


def map_labels(unit_CD: FloatArray, kind: Literal["umap", "tsne", "pca"], seed: int = 0) -> FloatArray:
    """Places of the classes, of shape (C, 2).

    Args:
        unit_CD: rows of length 1.
        kind: umap (McInnes, Healy and Melville 2018), tsne (van der Maaten and Hinton 2008), or pca.
        seed: of the layout.
    """
    n_classes = len(unit_CD)
    if kind == "umap":
        return _umap(unit_CD, seed)
    if kind == "tsne":
        perplexity = min(30.0, (n_classes - 1) / 3)
        layout: FloatArray = TSNE(
            metric="cosine", init="random", perplexity=perplexity, random_state=seed
        ).fit_transform(unit_CD)
        return layout
    if not np.ptp(unit_CD, axis=0).any():  # one class, or all the same: no axis to tell them apart
        return np.zeros((n_classes, 2))
    n_axes = min(2, *unit_CD.shape)
    place_CA = PCA(n_axes, random_state=seed).fit_transform(unit_CD)
    return np.column_stack([place_CA, np.zeros((n_classes, 2 - place_CA.shape[1]))])


def _umap(unit_CD: FloatArray, seed: int) -> FloatArray:
    with warnings.catch_warnings():  # it warns of what a fixed seed implies, and of its parts' deprecations
        warnings.simplefilter("ignore")
        from umap import UMAP

        init = "random" if len(unit_CD) < 30 else "spectral"
        n_neighbours = min(15, len(unit_CD) - 1)
        layout: FloatArray = UMAP(n_neighbours, metric="cosine", init=init, random_state=seed, n_jobs=1).fit_transform(
            unit_CD
        )
        return layout
