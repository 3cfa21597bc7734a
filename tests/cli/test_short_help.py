"""What a user reads who asks for help."""

import re
from pathlib import Path

import pytest

from coterie.cli import main
from coterie.cli.short_help import RARE, SHOWN
from coterie.config import EngineSettings, FitSettings

MOST_SET = {
    *("out", "config", "base", "seeds", "dry-run", "gain", "anyway", "backbone", "weights", "init", "seed"),
    *("recipe", "budget", "storage", "gate.passes"),
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    return capsys.readouterr().out


def options(text: str) -> set[str]:
    return set(re.findall(r"^\W*(?:-h, )?--([a-z][a-z.-]*)", text, re.MULTILINE)) - {"help"}


def all_settings() -> set[str]:
    values = {**FitSettings().to_values(), **EngineSettings().model_dump()}
    names = {f"{group}.{name}" for group, held in values.items() if isinstance(held, dict) for name in held}
    names |= {name for name, held in values.items() if not isinstance(held, dict)}
    return {name.replace("_", "-") for name in names}


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_help_of_fit_fits_a_screen_and_says_where_the_rest_is(word: str, capsys) -> None:
    text = help_of(capsys, "fit", word)
    assert len(text.splitlines()) < 72
    assert "`coterie fit --help-all` shows all options" in text
    assert options(text) == MOST_SET | {"workers", "data.source", "data.text", "data.label"}


def test_the_whole_help_holds_every_option_by_group(capsys) -> None:
    text = help_of(capsys, "fit", "--help-all")
    assert options(text) == all_settings() | MOST_SET | {"trust", "base-only"}
    assert " specialist options " in text
    assert "--help-all" not in text


def test_what_is_shown_and_hidden_exists() -> None:
    assert all(set(names) <= set(group.model_fields) for group, names in SHOWN.items())
    assert {name.replace("_", "-") for name in RARE} == {"trust", "base-only"}


def test_defaults_in_the_short_help_are_those_of_the_settings_file(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.yaml").write_text("backbone: mlp-7\ndata: {label: queue}\n")
    text = help_of(capsys, "fit", "--config", str(tmp_path / "mine.yaml"), "--help")
    assert "(default: mlp-7)" in text
    assert "queue" in text


def test_other_commands_have_one_help(capsys) -> None:
    assert help_of(capsys, "tune", "--help") == help_of(capsys, "tune", "--help-all")


def test_an_option_that_the_short_help_leaves_out_is_taken(tmp_path: Path, capsys) -> None:
    assert main(["fit", "--out", str(tmp_path / "run"), "--partition.overlap", "-1"]) == 1
    assert "overlap" in capsys.readouterr().err
