"""``coterie fit``: what it is started from."""

from pathlib import Path

import pytest

from coterie.cli import main
from coterie.cli.fit import LOWEST_GAIN, named_settings
from coterie.config import FitSettings
from coterie.errors import DeclinedError
from coterie.run.folder import Run
from helpers import rewrite_manifest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot read"),
        ("[]", "is damaged: top level"),
        ('{"format": 2}', "is damaged: settings"),
        ('{"format": 2, "settings": {"seed": -1}}', "is damaged: settings: seed = -1"),
        ('{"format": 2, "settings": {"colour": 1}}', "is damaged: settings: unknown setting 'colour'"),
        ("[" * 200_000, "nested more than 64 deep"),
        ('{"format": 2, "settings": {"self": 1}}', "is damaged: settings: unknown setting 'self'"),
        ('{"format": 2, "settings": {"base": {"learning_rate": NaN}}}', "not JSON compliant"),
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


def test_a_base_does_not_say_what_is_written_elsewhere(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Run.open(finished_run).settings.to_values()
    rewrite_manifest(finished_run, settings={**settings, "track": {"mlflow": str(tmp_path / "elsewhere")}})
    begun: list[FitSettings] = []
    monkeypatch.setattr("coterie.pipeline.fit.fit", lambda settings, *_, **__: begun.append(settings))
    for options in ([], ["--track.mlflow", "mine"]):
        main(["fit", "--base", str(finished_run), "--out", str(tmp_path / "new"), *options])
    assert [settings.track.mlflow for settings in begun] == [None, "mine"]


@pytest.mark.parametrize(
    ("options", "points"), [([], 0.5), (["--gain", "2"], 2.0), (["--gain", "2", "--anyway"], LOWEST_GAIN)]
)
def test_a_declined_training_is_an_answer_and_no_error(
    options: list[str],
    points: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[float] = []

    def declines(*_: object, gain: float, **__: object) -> None:
        asked.append(gain)
        raise DeclinedError("forecast: +0.1 points")

    monkeypatch.setattr("coterie.pipeline.fit.fit", declines)
    assert main(["fit", "--backbone", "convnet-8", "--out", str(tmp_path / "new"), *options]) == 0
    assert capsys.readouterr().out == "Don't. forecast: +0.1 points\n"
    assert asked == [points]


@pytest.mark.parametrize("points", ["-1", "100", "nan"])
def test_a_gain_is_in_points(points: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--out", str(tmp_path / "new"), "--gain", points]) == 1
    assert "must be at least 0 and below 100 points" in capsys.readouterr().err


def test_seeds_and_a_run_as_base_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--seeds", "2", "--base-only", "--out", str(tmp_path / "new")]) == 1
    assert "--base-only with --seeds 2: headroom looks at one run" in capsys.readouterr().err


def test_a_finished_run_that_is_damaged_is_not_called_finished(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = finished_run.parent / "settings.yaml"
    settings.write_text(Run.open(finished_run).settings.to_yaml())
    (finished_run / "logits/test.safetensors").write_bytes(b"")
    assert main(["fit", "--config", str(settings), "--out", str(finished_run)]) == 1
    captured = capsys.readouterr()
    assert "finished" not in captured.out
    assert "logits/test.safetensors: 0 bytes instead of" in captured.err
    assert f"`coterie repair {finished_run}` mends what can be mended" in captured.err


def test_a_name_of_300_characters_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 300
    for command in (["fit", "--out", name], ["fit", "--base", name, "--out", str(tmp_path / "new")], ["info", name]):
        assert main([*command, "--data.train-per-class", "1"] if command[0] == "fit" else command) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_what_no_option_gave_has_the_defaults_that_go_with_what_one_did() -> None:
    plain = FitSettings().to_values()
    base = {**plain["base"], "epochs": 3}
    parsed = FitSettings.from_values({**plain, "init": "w.pt", "backbone": "timm:x", "base": base})
    assert parsed.base.optimizer == "sgd"
    settings = named_settings(parsed, FitSettings(), {"init", "backbone", "base.epochs", "out"})
    assert (settings.base.optimizer, settings.base.epochs, settings.data.augment) == ("adamw", 3, "photo")
    file = FitSettings.from_values({"base": {"momentum": 0.5}, "track": {"tensorboard": True}})
    parsed = FitSettings.from_values({**file.to_values(), "track": {**file.to_values()["track"], "tensorboard": False}})
    settings = named_settings(parsed, file, {"track.no_tensorboard"})
    assert settings.given() == {"base": {"momentum": 0.5}, "track": {"tensorboard": False}}
