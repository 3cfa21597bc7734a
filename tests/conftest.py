from __future__ import annotations

import hypothesis
import pytest

from coterie.config import FitSettings
from coterie.data.splits import Splits
from helpers import make_settings, make_splits

# Machines that run tests are often busy with something else: no example fails for being slow.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture
def splits() -> Splits:
    return make_splits()


@pytest.fixture
def settings() -> FitSettings:
    return make_settings()
