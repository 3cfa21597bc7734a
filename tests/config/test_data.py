from __future__ import annotations

from typing import Any

import pytest

from coterie.config import DataSettings
from coterie.errors import SettingsError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "csv:x.csv", "configuration": "plus"}, "only data sets of the hub have configurations"),
        ({"source": "csv:"}, "must be glyphs"),
        ({"separator": ""}, "must be tab, or one character"),
        ({"separator": '"'}, "must be tab, or one character"),
        ({"separator": "\u20ac"}, "must be tab, or one character"),
        ({"separator": "e"}, "must not be a letter"),
        ({"encoding": "klingon"}, "must be an encoding of texts"),
        ({"encoding": "base64"}, "must be an encoding of texts"),
        ({"encoding": ""}, "must be an encoding of texts"),
        ({"root": ""}, "at least 1 character"),
        ({"modality": "sound"}, "'image', 'text', 'table' or 'features'"),
        ({"imbalance": 0.5}, "greater than or equal to 1"),
        ({"text_as": "bert"}, "'ngrams' or 'minilm'"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DataSettings(**values)


@pytest.mark.parametrize("separator", ["tab", "\\t", "\t"])
def test_a_tab_can_be_named_in_a_shell(separator: str) -> None:
    assert DataSettings(separator=separator).separator == "\t"


def test_encodings_have_one_name() -> None:
    assert {DataSettings(encoding=name).encoding for name in ("Windows-1252", "cp1252", "CP1252")} == {"cp1252"}
