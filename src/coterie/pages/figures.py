"""Small pure functions from values to inline SVG. Colours come from the page's style sheet, by class name.

Marks differ in shape, dash or symbol too, so that no figure depends on seeing colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from coterie.arrays import FloatArray, IntArray
from coterie.measures.report import ClusterRow, Curve
from coterie.pages.drawing import WIDTH
from coterie.pages.drawing import line as _line
from coterie.pages.drawing import matrix_png as _matrix_png
from coterie.pages.drawing import png_address as _png_address
from coterie.pages.drawing import rect as _rect
from coterie.pages.drawing import svg as _svg
from coterie.pages.drawing import text as _text
from coterie.pages.format import decimal, hundredths, percent

# Beyond these numbers a mark of its own for each item would no longer be legible.
MOST_BARS_WITH_LABELS = 40
MOST_ROWS = 60
MOST_NAMED_CLASSES = 30
MOST_CURVE_POINTS = 200
MOST_FRAMES = 300
LARGEST_IMAGE = 256


@dataclass(frozen=True)
class Scale:
    """A linear map from values to drawing units."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Where ``value`` is drawn."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.stop - self.start)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round values whose first and last enclose ``low`` and ``high``."""
    span = high - low if high > low else max(abs(high), 1.0) * 0.01
    power = 10.0 ** np.floor(np.log10(span / count))
    step = float(next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= count))
    first, last = int(np.floor(low / step + 1e-9)), int(np.ceil(high / step - 1e-9))
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def shorten(text: str, length: int) -> str:
    """At most ``length`` characters, the last an ellipsis where something was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def cluster_sizes(size_S: IntArray) -> Markup:
    """One bar per cluster, as high as its number of classes."""
    n_clusters, height = len(size_S), 240
    ticks = [tick for tick in nice_ticks(0, float(size_S.max()), 4) if tick == int(tick)]
    y = Scale(0, max(ticks[-1], float(size_S.max())), height - 34, 22)
    pitch = (WIDTH - 60) / n_clusters
    width = min(pitch * 0.72, 56) if pitch > 3 else pitch
    labelled = n_clusters <= MOST_BARS_WITH_LABELS
    every = 1 if labelled else 10 ** int(np.ceil(np.log10(n_clusters / 20)))
    parts = [] if labelled else list(_grid(ticks, y, 52, "{:.0f}"))
    for cluster, size in enumerate(size_S.tolist()):
        middle = 52 + (cluster + 0.5) * pitch
        title = _cluster_title(cluster, size)
        parts.append(_rect(middle - width / 2, y(size), width, y(0) - y(size), "mark", title))
        if labelled:
            parts.append(_text(middle, y(size) - 6, str(size), "strong middle"))
        if cluster % every == 0:
            parts.append(_text(middle, y(0) + 18, str(cluster), "middle"))
    parts.append(_line(52, y(0), WIDTH - 8, y(0), "axis"))
    return _svg(WIDTH, height, "Number of classes in each cluster", parts)


def threshold_curves(test: Curve, validation: Curve, chosen: Sequence[tuple[float, float]], base: float) -> Markup:
    """Accuracy against routed share; ``chosen`` is where the gate stands, on test and on validation."""
    height = 340
    accuracies = [*test.accuracy, *validation.accuracy, *(accuracy for _, accuracy in chosen), base]
    ticks = nice_ticks(min(accuracies), max(accuracies))
    x, y = Scale(0, 1, 84, WIDTH - 18), Scale(ticks[0], ticks[-1], height - 56, 14)
    parts = list(_grid(ticks, y, 84, "{:.2f}" if ticks[1] - ticks[0] < 0.001 else "{:.1f}", factor=100))
    parts += [_text(x(share / 100), height - 34, str(share), "middle") for share in (0, 25, 50, 75, 100)]
    parts += [
        _text((x(0) + x(1)) / 2, height - 8, "% of samples routed to a specialist", "middle"),
        _line(x(0), y(base), x(1), y(base), "level"),
        _polyline(validation.routed, validation.accuracy, x, y, "second line"),
        _polyline(test.routed, test.accuracy, x, y, "first line"),
    ]
    (test_routed, test_accuracy), (validation_routed, validation_accuracy) = chosen
    parts += [
        _marker("diamond", x(validation_routed), y(validation_accuracy), "chosen second", "chosen, validation"),
        _marker("dot", x(test_routed), y(test_accuracy), "chosen first", "chosen, test"),
    ]
    return _svg(WIDTH, height, "Accuracy in % against share of samples routed", parts)


@dataclass(frozen=True)
class Mark:
    """A labelled point: cost across, accuracy (a share of 1) up. ``css``: shape and tone; ``title``: on hovering."""

    cost: float
    accuracy: float
    css: str
    label: str
    title: str


def cost_scatter(marks: Sequence[Mark], axis: str) -> Markup:
    """Accuracy in % against a cost."""
    height = 380
    ticks = nice_ticks(min(mark.accuracy for mark in marks), max(mark.accuracy for mark in marks))
    costs = nice_ticks(min(mark.cost for mark in marks), max(mark.cost for mark in marks))
    x, y = Scale(costs[0], costs[-1], 92, WIDTH - 24), Scale(ticks[0], ticks[-1], height - 56, 14)
    parts = list(_grid(ticks, y, 84, "{:.1f}", factor=100))
    parts += [_text(x(cost), height - 34, f"{cost:g}", "middle") for cost in costs]
    parts.append(_text((x.start + x.stop) / 2, height - 8, axis, "middle"))
    for mark in marks:
        shape, _, tone = mark.css.partition(" ")
        parts.append(_marker(shape, x(mark.cost), y(mark.accuracy), tone or "second", mark.title))
        parts.append(_text(x(mark.cost) + 8, y(mark.accuracy) - 6, mark.label, "halo", mark.title))
    return _svg(WIDTH, height, f"Accuracy in % against {axis}", parts)


def cluster_accuracies(rows: Sequence[ClusterRow]) -> Markup:
    """Top-1 of base, restricted base and specialist, one line per cluster; empty where these are too many."""
    rows = [row for row in rows if row.n_samples]
    if not rows or len(rows) > MOST_ROWS:
        return Markup("")
    height = 46 + 30 * len(rows)
    low = min(min(row.base_top1, row.restricted_top1, row.specialist_top1) for row in rows)
    ticks = [tick for tick in nice_ticks(min(low, 0.95), 1.0) if tick < 1 + 1e-9]
    x = Scale(ticks[0], 1.0, 58, WIDTH - 24)
    parts = []
    for tick in ticks:
        parts.append(_line(x(tick), 8, x(tick), height - 34, "grid"))
        parts.append(_text(x(tick), height - 12, hundredths(tick, 0), "middle"))
    for number, row in enumerate(rows):
        y = 24 + 30 * number
        worse = row.specialist_top1 < row.restricted_top1
        parts += [
            _text(42, y + 4, str(row.cluster), "end strong"),
            _line(x(row.base_top1), y, x(row.restricted_top1), y, "second thin"),
            _line(x(row.restricted_top1), y, x(row.specialist_top1), y, "bad thick" if worse else "first thick"),
            _marker("ring", x(row.base_top1), y, "second", f"base {percent(row.base_top1)}"),
            _marker(
                "diamond",
                x(row.restricted_top1),
                y,
                "second",
                f"restricted base {percent(row.restricted_top1)}",
            ),
        ]
        if len(row.classes) > 1:
            shape, tone = ("down", "bad") if worse else ("dot", "first")
            title = f"specialist {percent(row.specialist_top1)}"
            parts.append(_marker(shape, x(row.specialist_top1), y, tone, title))
    return _svg(WIDTH, height, "Top-1 accuracy in % within each cluster", parts)


def symbol(shape: str, tone: str) -> Markup:
    """A marker or a piece of line on its own, for legends."""
    if shape in {"solid", "dashed", "level"}:
        css = "level" if shape == "level" else f"{tone} line"
        mark = _line(0, 8, 26, 8, css)
    else:
        mark = _marker(shape, 13, 8, tone, "")
    return Markup('<svg class="symbol" viewBox="0 0 26 16" aria-hidden="true">{}</svg>').format(mark)


def gain_bar(gain: float, low: float, high: float) -> Markup:
    """The gain's interval as a bar on a line with a mark at zero."""
    reach = 1.1 * max(abs(low), abs(high), 1e-4)
    x = Scale(-reach, reach, 4, 156)
    parts = [
        _line(4, 14, 156, 14, "grid"),
        _line(x(0), 4, x(0), 24, "axis"),
        _line(x(low), 14, x(high), 14, "first thick"),
        _marker("dot", x(gain), 14, "first", ""),
    ]
    return _svg(160, 28, "The interval of the gain, with a mark at zero", parts)


def logit_bars(
    logits: FloatArray, names: Sequence[str], inside: Sequence[bool], true: int | None, answer: int
) -> Markup:
    """One bar per class. ✓ below the true class (None: it is not among them), ✗ above a wrong answer.

    Args:
        logits: one per class, in drawing order.
        names: of the classes, shown on hovering.
        inside: whether a class belongs to the cluster that was asked: drawn dark, the others pale.
        true: position of the true class.
        answer: position of the highest logit.
    """
    width, height = 420, 150
    y = Scale(min(0.0, float(logits.min())), max(0.0, float(logits.max())), height - 26, 22)
    pitch = (width - 44) / len(logits)
    bar = min(max(pitch * 0.75, 0.6), 26)
    parts = [
        _text(36, y(tick) + 4, f"{tick}".replace("-", "\N{MINUS SIGN}"), "end")
        for tick in sorted({round(y.low), 0, round(y.high)})
    ]
    parts.append(_line(40, y(0), width, y(0), "axis"))
    # Pale bars first: with a thousand classes neighbours overlap, and those that matter must lie on top.
    for place in sorted(range(len(logits)), key=lambda place: (place == answer, inside[place])):
        wrong = place == answer != true
        logit = float(logits[place])
        parts.append(
            Markup('<path class="{}" stroke-width="{:.2f}" d="M{:.1f} {:.1f}V{:.1f}"><title>{}</title></path>').format(
                "wrong" if wrong else "in" if inside[place] else "out",
                max(bar, 1.8) if wrong or inside[place] else bar,
                40 + (place + 0.5) * pitch,
                y(0),
                y(logit),
                f"{shorten(names[place], 24)}: {decimal(logit)}",
            )
        )
    if true is not None:
        parts.append(_text(40 + (true + 0.5) * pitch, height - 8, "✓", "good strong middle"))
    if true != answer:
        parts.append(_text(40 + (answer + 0.5) * pitch, y(float(logits[answer])) - 6, "✗", "bad strong middle"))
    return _svg(width, height, f"Logits of {len(logits)} classes", parts)


def training_curves(losses: Sequence[float], accuracies: Sequence[float], highest_loss: float) -> Markup:
    """Loss (dashed, from 0 to ``highest_loss``) and accuracy (solid, from 0 to 1) over the epochs."""
    width, height = 220, 96
    epochs = max(len(losses), len(accuracies))
    x = Scale(1, max(epochs, 2), 4, width - 4)
    parts = [
        _line(4, 4, width - 4, 4, "grid"),
        _line(4, height - 4, width - 4, height - 4, "axis"),
        _polyline(range(1, len(losses) + 1), losses, x, Scale(0, highest_loss, height - 4, 4), "second line"),
        _polyline(range(1, len(accuracies) + 1), accuracies, x, Scale(0, 1, height - 4, 4), "first line"),
    ]
    return _svg(width, height, f"Loss and accuracy over {epochs} epochs", parts)


@dataclass(frozen=True)
class MatrixFigure:
    """The similarity matrix as SVG, and the upper end of its colour scale; the lower end is minus that."""

    svg: Markup
    bound: float


def similarity_matrix(
    similarity_CC: FloatArray,
    order_M: IntArray,
    size_S: IntArray,
    names: Sequence[str],
    numbers: Sequence[int] | None = None,
) -> MatrixFigure:
    """The matrix in the order of the clusters, these framed. The diagonal does not set the colour scale.

    Args:
        similarity_CC: of classes, or of groups of classes where these are too many to draw.
        order_M: rows of it in drawing order.
        size_S: classes of each cluster, in drawing order.
        names: of the rows, in drawing order.
        numbers: of the clusters in drawing order; default: 0, 1, ...
    """
    ordered_MM = similarity_CC[np.ix_(order_M, order_M)]
    other = np.abs(similarity_CC[~np.eye(len(similarity_CC), dtype=bool)])
    bound = nice_ticks(0, float(other.max(initial=0.05)), 4)[-1]
    named = len(order_M) <= MOST_NAMED_CLASSES
    left = 150.0 if named else 40.0
    side = WIDTH - left - 6
    unit = side / float(size_S.sum())
    parts = [
        Markup('<image x="{:.1f}" y="26" width="{:.1f}" height="{:.1f}" href="{}"/>').format(
            left, side, side, _matrix_png(ordered_MM, bound)
        )
    ]
    if named:
        parts += [
            _text(left - 8, 26 + (place + 0.5) * unit + 4, shorten(name, 17), "end", title=name)
            for place, name in enumerate(names)
        ]
    parts += _cluster_frames(size_S, numbers or range(len(size_S)), left, unit, named=named)
    return MatrixFigure(_svg(WIDTH, int(side + 32), "Cosine similarity of classes, ordered by cluster", parts), bound)


def _cluster_frames(size_S: IntArray, numbers: Sequence[int], left: float, unit: float, *, named: bool) -> list[Markup]:
    parts: list[Markup] = []
    if len(size_S) > MOST_FRAMES:
        return parts
    stops = np.cumsum(size_S)
    side = float(stops[-1]) * unit
    for place, (cluster, stop, size) in enumerate(zip(numbers, stops.tolist(), size_S.tolist(), strict=True)):
        start = (stop - size) * unit
        if place and len(size_S) <= MOST_BARS_WITH_LABELS:
            parts.append(_line(left + start, 26, left + start, 26 + side, "boundary"))
            parts.append(_line(left, 26 + start, left + side, 26 + start, "boundary"))
        css = "frame" if size * unit >= 6 else "frame slight"
        parts.append(_rect(left + start, 26 + start, size * unit, size * unit, css, _cluster_title(cluster, size)))
        if size * unit >= 13:
            parts.append(_text(left + start + size * unit / 2, 18, str(cluster), "middle strong"))
            if not named:
                parts.append(_text(left - 8, 26 + start + size * unit / 2 + 4, str(cluster), "end strong"))
    return parts


def image_address(pixels_HWC: NDArray[np.uint8]) -> str:
    """An image as a data address: PNG, at most 256 pixels a side."""
    image = Image.fromarray(pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    image.thumbnail((LARGEST_IMAGE, LARGEST_IMAGE))
    return _png_address(image)


def _cluster_title(cluster: int, size: int) -> str:
    return f"cluster {cluster}: {size} {'class' if size == 1 else 'classes'}"


def _grid(ticks: Sequence[float], y: Scale, left: float, form: str, factor: float = 1) -> Iterable[Markup]:
    for tick in ticks:
        yield _line(left, y(tick), WIDTH - 8, y(tick), "grid")
        yield _text(left - 14, y(tick) + 4, form.format(factor * tick), "end")


def _polyline(xs: Sequence[float], ys: Sequence[float], x: Scale, y: Scale, css: str) -> Markup:
    """A line through the points, thinned evenly where they are many; a dot where there is but one."""
    if len(xs) == 1:
        return _marker("dot", x(xs[0]), y(ys[0]), css.split()[0], "")
    keep = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), MOST_CURVE_POINTS)).round().astype(int))
    points = " ".join(f"{x(xs[k]):.1f},{y(ys[k]):.1f}" for k in keep.tolist())
    return Markup('<polyline class="{}" points="{}"/>').format(css, points)


def _marker(shape: str, x: float, y: float, tone: str, title: str) -> Markup:
    """A dot, ring, diamond or triangle pointing down."""
    hover = Markup("<title>{}</title>").format(title) if title else ""
    if shape in {"dot", "ring"}:
        return Markup('<circle class="{} {}" cx="{:.1f}" cy="{:.1f}" r="5">{}</circle>').format(
            shape, tone, x, y, hover
        )
    outline = "m0 -6.5l6.5 6.5l-6.5 6.5l-6.5 -6.5z" if shape == "diamond" else "m-6.5 -5h13l-6.5 11.5z"
    return Markup('<path class="{} {}" d="M{:.1f} {:.1f}{}">{}</path>').format(shape, tone, x, y, outline, hover)
