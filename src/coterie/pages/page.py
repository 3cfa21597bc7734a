"""A template with its values -> one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from coterie.pages.format import FILTERS


def render_page(template: str, **values: Any) -> str:
    """The page, as HTML text to be written as UTF-8.

    The template calls the functions of ``coterie.pages.format`` as filters; ``style`` is the plain pages' style sheet.

    Args:
        template: the file's name in coterie/pages/templates.
        values: what it shows; all text is escaped.
    """
    folder = resources.files("coterie.pages").joinpath("templates")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= FILTERS
    source = folder.joinpath(template).read_text(encoding="utf-8")
    style = Markup(folder.joinpath("plain.css").read_text(encoding="utf-8"))
    page = environment.from_string(source).render(style=style, **values)
    # A folder's name that is not UTF-8 reaches us as lone surrogates, which no file could be written with.
    return page.encode("utf-8", "replace").decode("utf-8")
