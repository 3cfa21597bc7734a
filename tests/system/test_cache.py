from pathlib import Path

import pytest

from coterie.errors import ArtifactError
from coterie.system.cache import cache_folder


def test_the_cache_is_where_the_environment_says_or_in_the_home_folder(monkeypatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/someone"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/coterie")
    for unset in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""), lambda: monkeypatch.delenv("XDG_CACHE_HOME")):
        unset()
        assert cache_folder() == Path("/home/someone/.cache/coterie")


def test_without_a_home_folder_the_variable_is_named(monkeypatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(ArtifactError, match="set XDG_CACHE_HOME"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/coterie")
