"""A template with its values -> one HTML page that needs nothing else: no script, no font, no network; or a text."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from coterie.pages.format import FILTERS


def render_page(template: str, **values: Any) -> str:
    """The page, as HTML text to be written as UTF-8.

    The template calls the functions of ``coterie.pages.format`` as filters; ``style`` is the plain pages' style sheet.

    Args:
        template: the file's name in coterie/pages/templates.
        values: what it shows; all text is escaped.
    """
    return render_text(template, style=Markup(_read("plain.css")), **values)


def render_text(template: str, **values: Any) -> str:
    """A template that is no HTML, filled in: as ``render_page``, without a style sheet, and nothing is escaped."""
    text = _compiled(template).render(**values)
    # A folder's name that is not UTF-8 reaches us as lone surrogates, which no file could be written with.
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _compiled(template: str) -> Template:
    """Compiled once: that takes longer than to fill it in."""
    is_html = template.endswith(".html.j2")
    environment = Environment(autoescape=is_html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= FILTERS
    return environment.from_string(_read(template))


def _read(name: str) -> str:
    return resources.files("coterie.pages").joinpath("templates", name).read_text(encoding="utf-8")
