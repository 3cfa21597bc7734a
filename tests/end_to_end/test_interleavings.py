"""Commands side by side on one run, as benchmarks.robustness.interleavings draws them."""

from pathlib import Path

import pytest

from benchmarks.robustness.interleavings import AT_ONCE, READERS, WRITERS, interleave

pytestmark = pytest.mark.slow


def test_commands_side_by_side_damage_nothing_and_call_nothing_damaged(tmp_path: Path) -> None:
    account = interleave(tmp_path, interleavings=6, seed=1)
    assert account.failures == []
    assert sum(account.ended.values()) == 6 * AT_ONCE
    # Which of several writers finds the run free is a matter of moments; that none does is not.
    done = {name for name, how in account.ended if how == "done"}
    assert done & set(WRITERS)
    assert done & set(READERS)
