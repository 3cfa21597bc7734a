"""Files as people write them, as benchmarks.robustness.files draws them: read, or refused in a sentence."""

from pathlib import Path

import pytest

from benchmarks.robustness.files import KINDS, READ, draw, judged

CASES = {"image folder": 6, "images of a table": 6}  # whose files take longer to write
MOST = 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it warns of broken files before it refuses them
def test_files_are_read_as_they_are_or_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = set()
    for seed in range(CASES.get(kind, MOST)):
        written = draw(tmp_path / str(seed), kind, seed)
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path / str(seed))
            outcomes.add(judged(READ, written))
    assert outcomes == {"answered", "refused"}
