import base64
import io

import numpy as np
from PIL import Image

from coterie.pages.drawing import COLOUR_LEVELS, DIVERGING, WIDTH, line, matrix_png, rect, svg, text


def opened(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def test_a_matrix_is_coloured_about_zero_and_clipped() -> None:
    pixels = opened(matrix_png(np.array([[-1.0, 0.0], [9.0, 0.5]]), bound=1.0))
    half = WIDTH // 2
    assert pixels.shape == (2 * half, 2 * half, 3)
    corners = pixels[0, 0], pixels[0, -1], pixels[-1, 0]
    np.testing.assert_array_equal(corners, DIVERGING[[0, 2, 4]].round())


def test_there_is_a_level_for_zero() -> None:
    assert COLOUR_LEVELS % 2 == 1


def test_what_is_drawn_is_escaped() -> None:
    drawn = svg(10, 20, 'a "label"', [text(1, 2, "<b>", "middle", "x & y"), rect(0, 0, 1, 1, "mark", "<i>")])
    assert "&lt;b&gt;<title>x &amp; y</title>" in drawn
    assert "<title>&lt;i&gt;</title>" in drawn
    assert 'aria-label="a &#34;label&#34;"' in drawn


def test_a_line_goes_from_here_to_there() -> None:
    assert line(1, 2, 3, 4, "grid") == '<path class="grid" d="M1.0 2.0L3.0 4.0"/>'
