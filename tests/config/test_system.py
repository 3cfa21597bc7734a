import pytest

from coterie.config import EngineSettings
from coterie.errors import SettingsError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"address": "host:6379"}, "address = 'host:6379' needs engine = 'ray'"),
        ({"engine": "ray", "workers": 2}, "workers = 2 needs engine = 'local'"),
        ({"workers": 0}, "workers = 0: .*greater than or equal to 1"),
    ],
)
def test_settings_of_another_engine_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        EngineSettings(**values)


def test_each_engine_takes_its_own_settings() -> None:
    assert EngineSettings(workers=3).workers == 3
    assert EngineSettings(engine="ray", address="host:6379").address == "host:6379"
