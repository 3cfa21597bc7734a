import pytest
from jinja2 import UndefinedError

from coterie.pages.page import render_page

VALUES = {"about": "Made up.", "kinds": {}, "rows": [], "most_passes": 6.0, "by_training": "", "by_inference": ""}


class Empty:
    """A comparison without rows."""

    n_samples = 1234
    verdict = ()
    notes = ("a <b> & c", "broken \udcff")


def test_values_are_escaped_and_numbers_formatted() -> None:
    page = render_page("comparison.html.j2", comparison=Empty(), **VALUES)
    assert "of 1,234 test images" in page
    assert "a &lt;b&gt; &amp; c" in page
    assert "--accent" in page  # the style sheet is in the page


def test_a_page_can_always_be_written() -> None:
    assert "broken ?" in render_page("comparison.html.j2", comparison=Empty(), **VALUES).encode().decode()


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render_page("comparison.html.j2", comparison=Empty())
