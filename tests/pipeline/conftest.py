import pytest

from coterie.pipeline import pilot


@pytest.fixture
def piloted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what a pilot leaves took long, and few validation samples were enough to judge it by."""
    monkeypatch.setattr(pilot, "SOON_SECONDS", 0.0)
    monkeypatch.setattr("coterie.routing.pilot.LEAST_SAMPLES", 8)
