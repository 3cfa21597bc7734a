import os
import re
from pathlib import Path

import pytest

from coterie.config import FitSettings, TrainingSettings
from coterie.errors import SettingsError
from helpers import ROOT


def test_settings_survive_yaml(tmp_path: Path) -> None:
    settings = FitSettings.from_values({"specialist": {"epochs": 3}, "partition": {"clusters": [3, 8, 9]}, "seed": 4})
    file = tmp_path / "settings.yaml"
    file.write_text(settings.to_yaml())
    assert FitSettings.from_yaml(file) == settings


def test_a_file_keeps_the_defaults_of_what_it_leaves_out(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("specialist:\n  epochs: 3\n")
    settings = FitSettings.from_yaml(file)
    assert settings.specialist.epochs == 3
    assert settings.specialist.learning_rate == FitSettings().specialist.learning_rate
    assert settings.specialist.learning_rate != settings.base.learning_rate
    assert settings.base == TrainingSettings()


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda f: f.stem)
def test_the_examples_are_settings(file: Path) -> None:
    assert FitSettings.from_yaml(file) != FitSettings()


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("")
    assert FitSettings.from_yaml(file) == FitSettings()


def test_a_byte_order_mark_is_no_setting(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("seed: 3\n", encoding="utf-8-sig")
    assert FitSettings.from_yaml(file).seed == 3


@pytest.mark.parametrize("file", ["/dev/zero", "pipe"])
def test_only_regular_files_are_read(file: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match=rf"cannot read the settings file .*{file}: not a regular file"):
        FitSettings.from_yaml(tmp_path / file)


@pytest.mark.parametrize(
    "text", ["".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10) if k else 0}]\n" for k in range(12)), "&a [*a]"]
)
def test_anchors_that_stand_for_billions_of_values_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="more than 100,000 values"):
        FitSettings.from_yaml(file)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": {"epochs": 0}}, r"in base: epochs = 0: .*greater than or equal to 1"),
        ({"base": {"optimizer": "adam"}}, r"in base: optimizer = 'adam': .*'sgd' or 'adamw'"),
        ({"base": {"learning_rate": float("nan")}}, "in base: learning_rate = nan: .*finite"),
        ({"base": {"momentum": 1.0}}, "in base: momentum = 1.0: .*less than 1"),
        ({"speed": 9}, "unknown setting 'speed'; allowed here: data, backbone, weights"),
        ({"base": {"epoch": 9}}, r"in base: unknown setting 'epoch'; allowed here: epochs, batch_size"),
        ({"partition": {"clusters": [0]}}, "at least 1"),
        ({"base": {"average_decay": 1}}, "in base: average_decay = 1: Input should be less than 1"),
        ({"specialist": {"average_decay": 0.9, "patience": 2}}, "in specialist: patience = 2: .*one or the other"),
        ({"specialist": {"bits": 1}}, "in specialist: bits = 1: must be from 1.2 to 8, or 32"),
        *(
            (
                {"partition": {"embedding": wish}},
                rf"in partition: embedding = '{re.escape(wish)}': .*allowed: head, head",
            )
            for wish in (
                "rows",
                "",
                "bias",
                "head+head",
                "head+bias+head",
                "head+means+confusion",
                "confusion+",
                "a.txt",
            )
        ),
        ({"partition": {"clusters": [3, 3]}}, "given once"),
        ({"partition": {"clusters": []}}, "in partition: clusters"),
        (
            {"data": {"source": "imagenet"}},
            "must be glyphs, cifar100, parquet:DIR, .* hub:NAME, features:FILE, or the path",
        ),
        ({"data": {"source": "parquet:"}}, "must be glyphs"),
        ({"data": {"validation_share": 1.5}}, "validation_share = 1.5"),
        ({"gate": {"threshold": 1}}, "in gate: threshold = 1.*needs a score by name"),
        ({"gate": {"score": "entropy", "threshold": 1, "risk": 0.1}}, "in gate: risk = 0.1.*nothing to choose"),
        ({"gate": {"passes": 0.5}}, "in gate: passes = 0.5: .*greater than or equal to 1"),
        ({"gate": {"routed": 1.5}}, "in gate: routed = 1.5: .*less than or equal to 1"),
        ({"gate": {"combiner": "vote"}}, "in gate: combiner = 'vote': .*'hard'.*'blend'"),
        ({"hardware": {"accelerator": "tpu"}}, "'auto', 'cpu', 'cuda' or 'mps'"),
        ({"base": 3}, "base = 3"),
        ({"base": {"epochs": 0, "batch_size": 1}}, "epochs = 0.*\n.*batch_size = 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FitSettings.from_values(values)


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the settings file"):
        FitSettings.from_yaml(tmp_path / "missing.yaml")
    file = tmp_path / "settings.yaml"
    file.write_text("a: [")
    with pytest.raises(SettingsError, match="is not YAML"):
        FitSettings.from_yaml(file)
    file.write_text("- a")
    with pytest.raises(SettingsError, match="it holds a list"):
        FitSettings.from_yaml(file)


@pytest.mark.parametrize("split_seed", [None, 3])
def test_another_seed_keeps_the_splits(split_seed: int | None) -> None:
    settings = FitSettings.from_values({"seed": 7, "data": {"split_seed": split_seed}}).with_seed(8)
    assert (settings.seed, settings.data.split_seed) == (8, 7 if split_seed is None else 3)


@pytest.mark.parametrize("values", [{"max_time": "10"}, {"max_memory": "4 apples"}])
def test_limits_without_a_unit_are_named(values: dict[str, str]) -> None:
    ((name, text),) = values.items()
    with pytest.raises(SettingsError, match=f"{name} = '{text}'"):
        FitSettings(**values)


@pytest.mark.parametrize("values", ["1: 2", "base: {2: 3}", "~: 1", "seed: " + "9" * 5000, "a: 2026-99-99"])
def test_yaml_that_holds_other_things_than_words_and_values_is_one_sentence(values: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(values)
    with pytest.raises(SettingsError, match=r"the name of a setting is a word|is not YAML|unknown setting 'a'"):
        FitSettings.from_yaml(file)


def test_a_setting_named_like_an_argument_of_python_is_unknown() -> None:
    with pytest.raises(SettingsError, match="unknown setting 'self'"):
        FitSettings.from_values({"self": 1})


def test_a_wrong_value_is_shown_in_short() -> None:
    with pytest.raises(SettingsError) as raised:
        FitSettings.from_values({"seed": "x" * 10_000})
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("partition", "n_clusters", "epochs", "bits"),
    [
        ({"clusters": [9, 3], "least_open": 0.5}, 12, 7, 1.5),
        ({"clusters": [9, 3], "least_open": 0.5}, 1, 14, 8),
        ({"clusters": [4], "least_open": 0.5}, 1, 7, 6),
        ({"clusters": [9, 3]}, 1, 7, 1.5),
    ],
)
def test_one_specialist_that_stands_for_several_has_the_epochs_and_bits_of_all(
    partition, n_clusters: int, epochs: int, bits: float
) -> None:
    settings = FitSettings.from_values({"specialist": {"epochs": 7, "bits": 1.5}, "partition": partition})
    found = settings.specialist_of(n_clusters)
    assert (found.epochs, found.bits) == (epochs, bits)
    exact = FitSettings.from_values({"partition": partition})
    assert exact.specialist_of(n_clusters).bits == exact.specialist.bits
