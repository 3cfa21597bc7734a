import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.config import FitSettings
from coterie.errors import SettingsError
from coterie.system.units import BYTES, SECONDS, bytes_of, seconds_of


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400), ("3d", 259200)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert FitSettings(max_time=text).max_time == text


@pytest.mark.parametrize(
    ("text", "size"), [("500MiB", 500 * 2**20), ("4GiB", 2**32), ("0.5GiB", 2**29), ("1TiB", 2**40)]
)
def test_sizes(text: str, size: float) -> None:
    assert bytes_of(text) == size
    assert FitSettings(max_memory=text).max_memory == text


@pytest.mark.parametrize("text", ["", "90", "0s", "-1s", "1 h", "h", "1w", "nans", "1e3s", "10ms"])
def test_a_time_that_is_none_is_named_with_those_that_are(text: str) -> None:
    with pytest.raises(SettingsError, match=r"max_time = .*: must be a number above 0 and a unit, as in 90s, 10m"):
        FitSettings(max_time=text)


@pytest.mark.parametrize("text", ["", "4", "4GB", "0GiB", "-4GiB", "GiB", "4 GiB"])
def test_a_size_that_is_none_is_named_with_those_that_are(text: str) -> None:
    with pytest.raises(SettingsError, match=r"max_memory = .*: must be a number above 0 and a unit, as in 500MiB"):
        FitSettings(max_memory=text)


@given(st.integers(1, 10**6), st.sampled_from(sorted(SECONDS)), st.sampled_from(sorted(BYTES)))
def test_an_amount_is_a_number_times_its_unit(number: int, time: str, size: str) -> None:
    assert seconds_of(f"{number}{time}") == number * SECONDS[time]
    assert bytes_of(f"{number}{size}") == number * BYTES[size]
