"""Names in a model card are text, whatever they are."""

import pytest

from coterie.pages.card import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("brown bear", "brown bear"),
        ("a|b\n# c", r"a\|b \# c"),
        ("<b>[x](y)", r"\<b\>\[x\](y)"),
        ("snake_case `code` *", r"snake\_case \`code\` \*"),
    ],
)
def test_a_name_is_shown_as_it_is(text: str, shown: str) -> None:
    assert plain(text) == shown
