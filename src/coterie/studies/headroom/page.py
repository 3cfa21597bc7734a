"""A headroom -> one HTML page that needs nothing else: the advice, the picture, the table. Computes only the layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from coterie.measures.significance import Interval
from coterie.pages.drawing import WIDTH, line, svg, text
from coterie.pages.figures import Scale, nice_ticks
from coterie.pages.format import gain, points
from coterie.pages.page import render_page
from coterie.studies.headroom.advice import Headroom, Setting
from coterie.studies.headroom.costs import SettingCost

# A shape for each method, so that nothing depends on seeing colour.
SHAPES = "●○◆◇■□▲△▼"
HEIGHT = 300


@dataclass(frozen=True, eq=False)
class HeadroomContent:
    """All that the page shows. ``costs``: of each setting; ``test``: the advised setting on test samples."""

    about: str
    headroom: Headroom
    costs: tuple[SettingCost, ...]
    test: Setting | None
    caution: str | None
    next_command: str | None


def render(content: HeadroomContent) -> str:
    """The page, as HTML text to be written as UTF-8."""
    headroom = content.headroom
    methods = list(dict.fromkeys(setting.method for setting in headroom.settings))
    return render_page(
        "headroom.html.j2",
        content=content,
        headroom=headroom,
        advice=headroom.advice,
        rows=list(zip(headroom.settings, content.costs, strict=True)),
        picture=gain_chart(headroom),
        legend=[(SHAPES[k % len(SHAPES)], method) for k, method in enumerate(methods)],
    )


def gain_chart(headroom: Headroom) -> Markup:
    """Forecast gain in points with its interval, over the number of clusters; a shape for each method."""
    settings = headroom.settings
    numbers = sorted({setting.n_clusters for setting in settings})
    methods = list(dict.fromkeys(setting.method for setting in settings))
    ends = [100 * end for setting in settings for end in (setting.gain_low, setting.gain_high)]
    ticks = nice_ticks(min(0.0, *ends), max(100 * headroom.asked, *ends))
    y = Scale(ticks[0], ticks[-1], HEIGHT - 44, 12)
    slot = (WIDTH - 80) / len(numbers)
    digits = max(0, len(f"{ticks[1] - ticks[0]:.3f}".rstrip("0").partition(".")[2]))
    parts = [piece for tick in ticks for piece in _rule(y(tick), points(tick / 100, digits) if tick else "0")]
    parts.append(line(64, y(0), WIDTH - 8, y(0), "axis"))
    parts.append(line(64, y(100 * headroom.asked), WIDTH - 8, y(100 * headroom.asked), "level"))
    for place, number in enumerate(numbers):
        parts.append(text(72 + (place + 0.5) * slot, HEIGHT - 24, str(number), "middle"))
    step = min(18.0, 0.8 * slot / len(methods))
    for setting in settings:
        kind = methods.index(setting.method)
        x = 72 + (numbers.index(setting.n_clusters) + 0.5) * slot + (kind - (len(methods) - 1) / 2) * step
        parts += _mark(x, y, setting, SHAPES[kind % len(SHAPES)], chosen=setting == headroom.advice.setting)
    parts.append(text((64 + WIDTH) / 2, HEIGHT - 4, "number of clusters", "middle"))
    return svg(WIDTH, HEIGHT, "Forecast gain in points over the number of clusters", parts)


def _mark(x: float, y: Scale, setting: Setting, shape: str, *, chosen: bool) -> Sequence[Markup]:
    with_interval = gain(Interval(setting.gain, setting.gain_low, setting.gain_high))
    title = f"{setting.method}, {setting.n_clusters} clusters: {with_interval} points"
    css = "middle shape chosen" if chosen else "middle shape"
    return (
        line(x, y(100 * setting.gain_low), x, y(100 * setting.gain_high), "whisker chosen" if chosen else "whisker"),
        text(x, y(100 * setting.gain) + 5, shape, css, title),
    )


def _rule(y: float, label: str) -> Sequence[Markup]:
    return (line(64, y, WIDTH - 8, y, "grid"), text(56, y + 4, label, "end"))
