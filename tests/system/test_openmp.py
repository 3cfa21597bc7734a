import os

import pytest

from coterie.system.openmp import WAITING, wait_without_spinning


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING:
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)


def test_threads_sleep_while_they_wait() -> None:
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("name", WAITING)
def test_what_the_user_has_chosen_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "200")
    wait_without_spinning()
    assert {each: os.environ.get(each) for each in WAITING} == dict.fromkeys(WAITING) | {name: "200"}
