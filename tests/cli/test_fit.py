"""``coterie fit``: what it is started from."""

from pathlib import Path

import pytest

from coterie.cli import main


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot read"),
        ("[]", "is damaged: top level"),
        ('{"format": 2}', "is damaged: settings"),
        ('{"format": 2, "settings": {"seed": -1}}', "is damaged: settings: seed = -1"),
        ('{"format": 2, "settings": {"colour": 1}}', "is damaged: settings: unknown setting 'colour'"),
        ('{"format": 9, "settings": {}}', "has format 9"),
    ],
)
def test_a_base_with_a_damaged_manifest_ends_in_one_sentence(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text(content)
    assert main(["fit", "--base", str(tmp_path), "--out", str(tmp_path / "new")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_seeds_and_a_run_as_base_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--seeds", "2", "--base-only", "--out", str(tmp_path / "new")]) == 1
    assert "--base-only with --seeds 2: headroom looks at one run" in capsys.readouterr().err
