import numpy as np
import pytest

from coterie.measures.significance import Interval
from coterie.pages import format as numbers
from coterie.pages.format import (
    chance,
    count,
    decimal,
    duration,
    gain,
    hundredths,
    interval,
    mean_share,
    mebibytes,
    milliseconds,
    percent,
    points,
    rough_duration,
    size,
    zero,
)

MINUS, SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def test_shares_are_in_per_cent() -> None:
    assert [percent(0.71234), percent(0.71234, 1), hundredths(0.71234)] == [f"71.23{SPACE}%", f"71.2{SPACE}%", "71.23"]


def test_points_are_signed_unless_they_round_to_zero() -> None:
    assert [points(v) for v in (0.0103, -0.0103, 0.00001, -0.00001)] == ["+1.03", f"{MINUS}1.03", "0.00", "0.00"]
    assert points(0.0103, 1) == "+1.0"


def test_a_gain_has_its_interval() -> None:
    assert interval(-0.001, 0.02) == f"{MINUS}0.10 to +2.00"
    assert gain(Interval(0.0103, 0.0041, 0.0165)) == "+1.03 (+0.41 to +1.65)"
    assert gain(Interval(0.0103, -np.inf, np.inf)) == "+1.03"


@pytest.mark.parametrize(("low", "high"), [(0.001, 0.02), (-0.02, -0.001), (-0.001, 0.02), (0.0, 0.0), (-0.02, 0.0)])
def test_the_words_are_those_of_the_interval(low: float, high: float) -> None:
    excludes = Interval((low + high) / 2, low, high).excludes_zero
    assert zero(low, high) == f"the interval {'excludes' if excludes else 'includes'} zero"


def test_a_mean_over_seeds_has_half_its_interval() -> None:
    assert mean_share(Interval(0.7, 0.69, 0.71)) == "70.00 ±1.00"
    assert mean_share(Interval(0.7, -np.inf, np.inf)) == "70.00"


def test_chances_have_two_digits() -> None:
    assert [chance(p) for p in (None, 0.0, 0.0009, 0.0123, 0.5, 1.0)] == ["", "<0.001", "<0.001", "0.012", "0.5", "1"]


def test_numbers_have_their_digits() -> None:
    assert [decimal(1.4149), decimal(0.12345, 3), count(1_234_567), count(99.6)] == [
        "1.41",
        "0.123",
        "1,234,567",
        "100",
    ]


def test_measured_durations() -> None:
    assert [duration(v) for v in (2.34, 61, 3720)] == ["2.3 s", "1 min 1 s", "1 h 2 min"]
    assert [milliseconds(v) for v in (0.123, 1234.5)] == ["0.12 ms", "1,234 ms"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (2700, "45 min"), (12_000, "3 h 20 min")]
)
def test_estimated_durations(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text


def test_sizes() -> None:
    assert [size(v) for v in (1_500, 999_949, 128_600_000, 2.5e9)] == ["1.5 kB", "999.9 kB", "128.6 MB", "2.5 GB"]
    assert [mebibytes(2**30), mebibytes(2**19, 1)] == ["1,024 MiB", "0.5 MiB"]


def test_templates_have_every_function() -> None:
    own = {name for name, value in vars(numbers).items() if getattr(value, "__module__", "") == numbers.__name__}
    assert set(numbers.FILTERS) == own
