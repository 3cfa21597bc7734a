import pytest

from coterie.studies.headroom.advice import Setting
from coterie.studies.headroom.costs import SettingCost, SpecialistPrice


def setting(n_specialists: int = 3, trained_share: float = 0.5) -> Setting:
    figures = (0.9, 0.8, 0.85, 0.86, 0.01, 0.0, 0.02, 0.6, 0.4, 0.25)
    return Setting("average", 4, 1, 2.0, 3, *figures, n_specialists, trained_share, 0.004)


def test_a_setting_costs_its_share_of_the_training_and_its_networks() -> None:
    cost = SpecialistPrice(10, seconds=400.0, network_bytes=2_000_000).of(setting())
    assert cost == SettingCost(5.0, 200.0, 6_000_000)
    assert (cost.time, cost.storage(setting())) == ("3 min", "6.0 MB")


def test_of_logits_alone_epochs_and_networks_are_known() -> None:
    cost = SpecialistPrice(10).of(setting())
    assert cost == SettingCost(5.0, None, None)
    assert (cost.time, cost.storage(setting())) == ("5 ep.", "3 x")


@pytest.mark.parametrize(("seconds", "text"), [(30.0, "30 s"), (9000.0, "2 h 30 min")])
def test_times_are_rough(seconds: float, text: str) -> None:
    assert SettingCost(1.0, seconds, None).time == text
