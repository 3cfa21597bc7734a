from __future__ import annotations

import io

import pytest
from rich.console import Console


@pytest.fixture
def console() -> Console:
    """A console 100 columns wide; ``console.export_text()`` is what was printed."""
    return Console(file=io.StringIO(), width=100, record=True)
