"""Where tables and bars are drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from coterie.system.output import GuardedStream, shown


class SafeConsole(Console):
    """A console that takes brackets and colons in names for what they are, and shows control characters.

    Whatever is drawn, from lines to tables and bars, passes ``render``.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        stream = sys.stdout if stream is None else stream
        if isinstance(stream, GuardedStream):
            stream = cast("TextIO", stream.unfiltered())
        super().__init__(file=stream, markup=False, emoji=False, highlight=False)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        # Before lines are broken, so that nothing is cut off what becomes longer; and after, whatever is drawn.
        if isinstance(renderable, str | Text) and (clean := shown(str(renderable))) != str(renderable):
            renderable = renderable.blank_copy(clean) if isinstance(renderable, Text) else clean
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(shown(text), style)
