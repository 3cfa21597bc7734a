import pytest
from pydantic import Field, ValidationError

from coterie.config import Settings
from coterie.errors import SettingsError


class Oven(Settings):
    degrees: int = Field(180, ge=30, le=250)
    rack: str = "middle"


def test_each_wrong_setting_has_a_line_with_its_value_and_what_is_allowed() -> None:
    values = {"degrees": 300, "rack": 3, "colour": "red"}
    with pytest.raises(SettingsError) as caught:
        Oven(**values)
    assert str(caught.value).splitlines() == [
        "degrees = 300: Input should be less than or equal to 250",
        "rack = 3: Input should be a valid string",
        "unknown setting 'colour'; allowed here: degrees, rack",
    ]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Oven().degrees = 200  # type: ignore[misc]
