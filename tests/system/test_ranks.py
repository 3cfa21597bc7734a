import os

import pytest

from coterie.errors import SettingsError
from coterie.system.ranks import ALONE, Ranks, forget_launcher_variables, forget_ranks

THIRD_OF_EIGHT = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables, and puts all of them back at the end, those that the program deletes too."""
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    return os.environ


def test_ranks_are_those_of_the_launcher_and_reading_them_changes_nothing(environment) -> None:
    assert Ranks.of_environment() == ALONE == Ranks(0, 1, 1)
    environment.update(THIRD_OF_EIGHT, LT_DEVICES="4")
    before = dict(environment)
    assert Ranks.of_environment() == Ranks(3, 8, 4)
    assert dict(environment) == before


def test_a_rank_that_a_scheduler_gives_is_none_of_torchruns(environment) -> None:
    environment.update(RANK="3", WORLD_SIZE="8", LOCAL_WORLD_SIZE="4")
    assert Ranks.of_environment() == ALONE


def test_what_is_forgotten_is_gone_and_nothing_else(environment) -> None:
    environment.update(THIRD_OF_EIGHT, LT_DEVICES="4", LT_CLI_USED="1")
    kept = {name: value for name, value in environment.items() if not name.startswith("LT_")}
    forget_launcher_variables()
    assert environment == kept
    assert THIRD_OF_EIGHT.items() <= kept.items()
    forget_ranks()
    forget_ranks()
    assert Ranks.of_environment() == ALONE
    assert environment["RANK"] == "3"


def test_only_rank_0_leads_and_each_takes_every_worldth_sample() -> None:
    assert [Ranks(rank, 3).leads for rank in range(3)] == [True, False, False]
    parts = [list(range(7))[Ranks(rank, 3).part] for rank in range(3)]
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
    assert list(range(7))[ALONE.part] == list(range(7))


def test_a_batch_is_shared_out_evenly() -> None:
    Ranks(0, 4).check_batch_size(128)
    with pytest.raises(
        SettingsError, match=r"base\.batch_size = 128 cannot be shared out evenly over 3 ranks; allowed: multiples of 3"
    ):
        Ranks(0, 3).check_batch_size(128)
