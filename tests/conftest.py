from __future__ import annotations

import shutil
from pathlib import Path

import hypothesis
import pytest

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from helpers import make_settings, make_splits

# Machines that run tests are often busy with something else: no example fails for being slow.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.hookimpl(trylast=True)  # after those that shuffle
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: one that came last would keep one process busy while others have no work left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def splits() -> Splits:
    return make_splits()


@pytest.fixture
def settings() -> FitSettings:
    return make_settings()


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``settings`` on ``splits``, trained once. Never written to: tests that write copy it."""
    path = tmp_path_factory.mktemp("trained") / "run"
    coterie.fit(make_settings(), path, splits=make_splits())
    return path


@pytest.fixture
def finished_run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return shutil.copytree(trained_run, tmp_path / "run")
