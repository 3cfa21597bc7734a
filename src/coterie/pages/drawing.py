"""What every figure is drawn with: pieces of inline SVG, and matrices as images."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
from markupsafe import Markup
from PIL import Image

from coterie.arrays import FloatArray

WIDTH = 640
# Blue and orange differ in every common form of colour blindness. Index 0 is the lowest value.
DIVERGING = np.array([[122, 52, 0], [230, 159, 0], [255, 255, 255], [86, 160, 214], [0, 46, 92]], dtype=float)
COLOUR_LEVELS = 65


def svg(width: int, height: int, label: str, parts: Iterable[Markup]) -> Markup:
    """A drawing that says in words what it shows."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(parts)
    )


def text(x: float, y: float, content: str, css: str, title: str = "") -> Markup:
    """A text; ``title`` is shown on hovering."""
    hover = Markup("<title>{}</title>").format(title) if title else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}{}</text>').format(x, y, css, content, hover)


def rect(x: float, y: float, width: float, height: float, css: str, title: str) -> Markup:
    """A rectangle; ``title`` is shown on hovering."""
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.2f}"><title>{}</title></rect>'
    ).format(css, x, y, width, height, title)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """A straight line."""
    return Markup('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(css, x1, y1, x2, y2)


def matrix_png(values_MM: FloatArray, bound: float) -> str:
    """A palette image; enlarged by a whole factor, since not every browser enlarges without blurring."""
    level_MM = np.rint((np.clip(values_MM / bound, -1, 1) + 1) / 2 * (COLOUR_LEVELS - 1)).astype(np.uint8)
    factor = max(1, WIDTH // len(level_MM))
    image = Image.fromarray(np.repeat(np.repeat(level_MM, factor, axis=0), factor, axis=1))
    at = np.linspace(0, len(DIVERGING) - 1, COLOUR_LEVELS)
    palette = np.stack(
        [np.interp(at, np.arange(len(DIVERGING)), DIVERGING[:, channel]) for channel in range(3)], axis=1
    )
    image.putpalette(np.rint(palette).astype(np.uint8).tobytes())
    return png_address(image)


def png_address(image: Image.Image) -> str:
    """An image as a data address."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
