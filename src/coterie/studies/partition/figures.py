"""Drawings of a partition: the map of labels, the dendrogram, the curve over S, and the matrix of many classes."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage

from coterie.arrays import FloatArray, IntArray
from coterie.pages.drawing import WIDTH, line, png_address, svg, text
from coterie.pages.figures import MatrixFigure, Scale, nice_ticks, shorten, similarity_matrix
from coterie.pages.format import decimal
from coterie.partition import Partition

# Beyond these numbers a mark, a name or a leaf for each would no longer be legible.
MOST_POINTS = 2000
MOST_NAMES = 40
# Room for the number of a cluster, in pixels, and how many are tried.
NUMBER_WIDTH, NUMBER_HEIGHT = 26, 15
MOST_TRIED = 1000
MOST_LEAVES = 100
MOST_MATRIX_ROWS = 1000
MATRIX_BINS = 500
DENSITY_SIDE = 200
GOLDEN = 0.61803398875


def cluster_order(mean_SD: FloatArray) -> IntArray:
    """Clusters in an order that puts similar ones side by side: the leaves of their dendrogram where these are few."""
    if not 2 < len(mean_SD) <= MATRIX_BINS * 4:
        return np.arange(len(mean_SD))
    return leaves_list(_tree(mean_SD))


def map_figure(place_C2: FloatArray, partition: Partition, names: Sequence[str]) -> Markup:
    """Classes as dots in the colour of their cluster, with names on hovering; as density where they are many."""
    low, high = place_C2.min(axis=0), place_C2.max(axis=0)
    x, y = Scale(low[0], high[0], 14, WIDTH - 14), Scale(low[1], high[1], WIDTH - 14, 14)
    cluster_C = partition.cluster_of_class_C
    if len(place_C2) > MOST_POINTS:
        address = _density_png(place_C2, cluster_C, partition.n_clusters)
        parts = [Markup('<image x="0" y="0" width="{}" height="{}" href="{}"/>').format(WIDTH, WIDTH, address)]
    else:
        radius = 5 if len(place_C2) <= 300 else 3
        parts = [
            Markup('<circle class="point" cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"><title>{}</title></circle>').format(
                x(px), y(py), radius, colour(cluster), f"{name} (cluster {cluster})"
            )
            for (px, py), cluster, name in zip(place_C2.tolist(), cluster_C.tolist(), names, strict=True)
        ]
    if len(place_C2) <= MOST_NAMES:
        parts += [
            text(x(px) + (-9 if px > low[0] + 0.7 * (high[0] - low[0]) else 9), y(py) + 4, shorten(name, 18), css)
            for (px, py), name in zip(place_C2.tolist(), names, strict=True)
            for css in ["halo end" if px > low[0] + 0.7 * (high[0] - low[0]) else "halo"]
        ]
    else:
        parts += _cluster_numbers(place_C2, partition, names, x, y)
    return svg(WIDTH, WIDTH, f"Map of {len(place_C2)} classes, coloured by cluster", parts)


def _cluster_numbers(
    place_C2: FloatArray, partition: Partition, names: Sequence[str], x: Scale, y: Scale
) -> list[Markup]:
    """Numbers of clusters in their middle, those of large ones first, none over another; hovering tells of classes."""
    parts: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for cluster in np.argsort(-partition.size_S, kind="stable")[:MOST_TRIED].tolist():
        classes = partition.classes(cluster)
        middle = np.median(place_C2[classes], axis=0)
        px, py = x(float(middle[0])), y(float(middle[1]))
        if any(abs(px - a) < NUMBER_WIDTH and abs(py - b) < NUMBER_HEIGHT for a, b in taken):
            continue
        taken.append((px, py))
        shown = ", ".join(names[k] for k in classes[:5].tolist()) + (", ..." if len(classes) > 5 else "")
        about = f"cluster {cluster}, {len(classes)} classes: {shown}"
        parts.append(text(px, py + 5, str(cluster), "halo strong middle", about))
    return parts


def ordered_matrix(unit_CD: FloatArray, partition: Partition, order_S: IntArray, names: Sequence[str]) -> MatrixFigure:
    """Cosines of all classes, cluster after cluster; means of groups of neighbouring rows where there are many."""
    row_M = np.concatenate([partition.classes(cluster) for cluster in order_S.tolist()])
    size_S, numbers = partition.size_S[order_S], order_S.tolist()
    if len(unit_CD) <= MOST_MATRIX_ROWS:
        cosine_CC = unit_CD.astype(np.float64) @ unit_CD.T.astype(np.float64)
        return similarity_matrix(cosine_CC, row_M, size_S, [names[k] for k in row_M.tolist()], numbers)
    # The mean cosine between two groups of rows is the product of their means: no C x C matrix is made.
    start = np.linspace(0, len(row_M), MATRIX_BINS + 1).astype(int)
    mean_BD = np.stack([unit_CD[row_M[a:b]].mean(axis=0) for a, b in itertools.pairwise(start)])
    rows = np.arange(MATRIX_BINS)
    return similarity_matrix(mean_BD @ mean_BD.T, rows, size_S, [""] * MATRIX_BINS, numbers)


def dendrogram(unit_CD: FloatArray, partition: Partition, mean_SD: FloatArray, names: Sequence[str]) -> Markup:
    """The tree of average linkage over classes, or over cluster means where classes are many; empty beyond."""
    cluster_C = partition.cluster_of_class_C
    if 2 <= len(unit_CD) <= MOST_LEAVES:
        leaves = [(shorten(name, 22), cluster) for name, cluster in zip(names, cluster_C.tolist(), strict=True)]
        return _draw_tree(_tree(unit_CD), leaves, "classes")
    if 2 <= partition.n_clusters <= MOST_LEAVES:
        leaves = [
            (f"{shorten(names[int(partition.classes(cluster)[0])], 16)} +{size - 1}", cluster)
            for cluster, size in enumerate(partition.size_S.tolist())
        ]
        return _draw_tree(_tree(mean_SD), leaves, "clusters")
    return Markup("")


def choice_curve(n_clusters: Sequence[int], values: Sequence[float], chosen: int, label: str) -> Markup:
    """A figure over the number of clusters, with a mark at the chosen one."""
    height = 200
    ticks = nice_ticks(min(values), max(values), 4)
    x = Scale(np.log(min(n_clusters)), np.log(max(n_clusters)), 70, WIDTH - 20)
    y = Scale(ticks[0], ticks[-1], height - 40, 14)
    places = [(x(np.log(s)), y(value)) for s, value in zip(n_clusters, values, strict=True)]
    digits = max(0, int(np.ceil(-np.log10(ticks[1] - ticks[0]) - 1e-9)))
    parts = [piece for tick in ticks for piece in _rule(y(tick), decimal(tick, digits))]
    parts.append(
        Markup('<polyline class="first line" points="{}"/>').format(" ".join(f"{a:.1f},{b:.1f}" for a, b in places))
    )
    last = -1e9
    for s, value, (px, py) in zip(n_clusters, values, places, strict=True):
        css = "dot chosen" if s == chosen else "dot first"
        parts.append(
            Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
                css, px, py, 7 if s == chosen else 3.5, f"S = {s}: {decimal(value, 4)}"
            )
        )
        if px - last > 24 or s == chosen:
            parts.append(text(px, height - 18, str(s), "middle strong" if s == chosen else "middle"))
            last = px
    parts.append(text(WIDTH / 2, height - 2, "number of clusters", "middle"))
    return svg(WIDTH, height, f"{label} against number of clusters", parts)


def colour(cluster: int) -> str:
    """Hues far apart for neighbouring numbers; lightness varies too, for those who see no hue."""
    red, green, blue = _rgb(cluster)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _rgb(cluster: int) -> tuple[int, int, int]:
    hue, light = (0.57 + cluster * GOLDEN) % 1.0, (0.42, 0.58, 0.32)[cluster % 3]
    return tuple(round(255 * part) for part in colorsys.hls_to_rgb(hue, light, 0.62))  # type: ignore[return-value]


def _rule(y: float, label: str) -> list[Markup]:
    return [line(62, y, WIDTH - 8, y, "grid"), text(54, y + 4, label.replace("-", "\N{MINUS SIGN}"), "end")]


def _density_png(place_C2: FloatArray, cluster_C: IntArray, n_clusters: int) -> str:
    """A pixel is as strong as classes are many there, in the colour of the cluster that has most of them."""
    low, high = place_C2.min(axis=0), place_C2.max(axis=0)
    margin = 4
    share_C2 = (place_C2 - low) / np.maximum(high - low, 1e-12)
    column_C, row_C = (margin + share_C2 * (DENSITY_SIDE - 1 - 2 * margin)).round().astype(int).T
    pixel_C = (DENSITY_SIDE - 1 - row_C) * DENSITY_SIDE + column_C
    pair, count = np.unique(pixel_C.astype(np.int64) * n_clusters + cluster_C, return_counts=True)
    pixel, cluster = np.divmod(pair, n_clusters)
    order = np.argsort(count, kind="stable")  # the largest is written last
    total = np.bincount(pixel_C, minlength=DENSITY_SIDE**2)
    rgba = np.zeros((DENSITY_SIDE**2, 4), dtype=np.uint8)
    palette = np.array([_rgb(cluster) for cluster in range(n_clusters)], dtype=np.uint8)
    rgba[pixel[order], :3] = palette[cluster[order]]
    strength = np.log1p(total) / np.log1p(max(int(total.max()), 1))
    rgba[:, 3] = np.where(total > 0, 90 + 165 * strength, 0).astype(np.uint8)
    image = Image.fromarray(rgba.reshape(DENSITY_SIDE, DENSITY_SIDE, 4), "RGBA")
    return png_address(image.resize((4 * DENSITY_SIDE, 4 * DENSITY_SIDE), Image.Resampling.NEAREST))


def _tree(row_KD: FloatArray) -> FloatArray:
    unit_KD = row_KD.astype(np.float64)
    unit_KD /= np.maximum(np.linalg.norm(unit_KD, axis=1, keepdims=True), 1e-12)
    cosine_KK = unit_KD @ unit_KD.T
    distance = np.maximum(1.0 - cosine_KK[np.triu_indices(len(unit_KD), 1)], 0.0)
    return linkage(distance, "average")


def _draw_tree(tree: FloatArray, leaves: Sequence[tuple[str, int]], what: str) -> Markup:
    """Leaves at the left, one a line, with the colour of their cluster; merges to the right, at their distance."""
    n_leaves, pitch = len(leaves), 16
    height = n_leaves * pitch + 44
    x = Scale(0.0, max(float(tree[-1, 2]), 1e-9), 190, WIDTH - 16)
    place = {int(leaf): (190.0, 12.0 + pitch * row) for row, leaf in enumerate(leaves_list(tree))}
    parts = []
    for leaf, (name, cluster) in enumerate(leaves):
        px, py = place[leaf]
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}"/>').format(px - 8, py, colour(cluster)))
        parts.append(text(px - 18, py + 4, f"{name} · {cluster}", "end"))
    for row, (left, right, distance, _) in enumerate(tree.tolist()):
        (x1, y1), (x2, y2) = place[int(left)], place[int(right)]
        px = x(distance)
        parts.append(Markup('<path class="axis" d="M{:.1f} {:.1f}H{:.1f}V{:.1f}H{:.1f}"/>').format(x1, y1, px, y2, x2))
        place[n_leaves + row] = (px, (y1 + y2) / 2)
    ticks = [tick for tick in nice_ticks(0.0, x.high, 4) if tick <= x.high]
    parts += [text(x(tick), height - 20, f"{tick:g}", "middle") for tick in ticks]
    parts.append(text((190 + WIDTH) / 2, height - 4, "1 \N{MINUS SIGN} cosine at which they join", "middle"))
    return svg(WIDTH, height, f"Dendrogram of {n_leaves} {what}", parts)
