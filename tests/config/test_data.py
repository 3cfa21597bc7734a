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
        ({"modality": "sound"}, "'image', 'text', 'table' or 'features'"),
        ({"imbalance": 0.5}, "greater than or equal to 1"),
        ({"text_as": "bert"}, "'ngrams' or 'minilm'"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DataSettings(**values)
