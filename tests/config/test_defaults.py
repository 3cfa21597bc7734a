from typing import Any

import pytest

from coterie.config import DataSettings, FitSettings, SpecialistSettings, TrainingSettings
from coterie.config.defaults import ADAMW
from coterie.errors import SettingsError


def test_what_was_not_given_has_fine_tunings_defaults() -> None:
    by_values = FitSettings.from_values({"init": "pretrained", "base": {"epochs": 2}, "data": {"flip": False}})
    by_classes = FitSettings(init="pretrained", base=TrainingSettings(epochs=2), data=DataSettings(flip=False))
    assert by_values == by_classes
    assert by_values.base.epochs == 2
    assert (by_values.base.optimizer, by_values.specialist.optimizer) == ("adamw", "adamw")
    assert by_values.base.head_rate > 1
    assert by_values.data.augment == "photo"
    assert by_values.base.learning_rate < 0.001
    given = FitSettings(init="w.pt", specialist=SpecialistSettings(learning_rate=0.3), base=TrainingSettings(mixup=0))
    assert (given.specialist.learning_rate, given.base.mixup) == (0.3, 0)


def test_fresh_weights_are_trained_as_before() -> None:
    assert FitSettings().base == TrainingSettings()
    assert FitSettings().base.learning_rate == 0.2
    assert FitSettings().data.augment == "shift"
    assert FitSettings.from_values(FitSettings().to_values()) == FitSettings()


def test_what_a_run_keeps_is_read_as_it_was() -> None:
    settings = FitSettings(init="pretrained", backbone="transformers:x", base=TrainingSettings(epochs=7))
    assert FitSettings.from_values(settings.to_values()) == settings
    assert settings.base.learning_rate < FitSettings(init="pretrained", backbone="timm:x").base.learning_rate


def test_what_was_given_is_known() -> None:
    values = {"base": {"epochs": 3}, "seed": 4}
    assert FitSettings.from_values(values).given() == values
    assert FitSettings(seed=4, base=TrainingSettings(epochs=3)).given() == values
    assert FitSettings.from_values(values).with_seed(5).given()["base"] == {"epochs": 3}


def test_weights_and_a_start_are_one_or_the_other() -> None:
    with pytest.raises(
        SettingsError, match=r"init = 'b\.pt' beside weights = 'a\.pt': weights are of a base that is trained already"
    ):
        FitSettings(weights="a.pt", init="b.pt")


@pytest.mark.parametrize(
    ("values", "epochs"),
    [
        ({"backbone": "timm:resnet18", "weights": "mine.pt"}, 3),
        ({"backbone": "transformers:mine"}, 3),
        ({"backbone": "timm:resnet18"}, 15),
        ({"backbone": "convnet-8", "weights": "mine.pt"}, 15),
        ({"backbone": "timm:resnet18", "weights": "mine.pt", "specialist": {"epochs": 7}}, 7),
    ],
)
def test_specialists_of_a_librarys_trained_network_are_trained_as_fine_tuned_ones(
    values: dict[str, Any], epochs: int
) -> None:
    settings = FitSettings.from_values(values)
    assert settings.specialist.epochs == epochs
    assert settings.specialist.optimizer == ("sgd" if epochs == 15 else "adamw")
    assert settings.base == FitSettings().base
    assert settings.data.augment == "shift"


@pytest.mark.parametrize("group", ["base", "specialist"])
@pytest.mark.parametrize("values", [{}, {"backbone": "ngram-64"}, {"backbone": "mlp-64"}])
def test_adamw_has_a_rate_of_its_own(values: dict[str, Any], group: str) -> None:
    asked = {**values, group: {"optimizer": "adamw"}}
    settings = FitSettings.from_values(asked)
    assert getattr(settings, group).learning_rate == ADAMW["learning_rate"]
    assert settings.given() == asked
    kind = TrainingSettings if group == "base" else SpecialistSettings
    assert (
        getattr(FitSettings(**{**values, group: kind(optimizer="adamw")}), group).learning_rate
        == ADAMW["learning_rate"]
    )
    named = FitSettings.from_values({**values, group: {"optimizer": "adamw", "learning_rate": 0.1}})
    assert getattr(named, group).learning_rate == 0.1
    # Fine-tuning's is of AdamW already.
    tuned = {**values, "init": "pretrained"}
    same = FitSettings.from_values({**tuned, group: {"optimizer": "adamw"}})
    assert getattr(same, group) == getattr(FitSettings.from_values(tuned), group)


@pytest.mark.parametrize(("group", "rate"), [("base", "0.0003"), ("specialist", "0.0001")])
def test_fine_tuning_by_sgd_needs_a_rate(group: str, rate: str) -> None:
    tuned = {"init": "pretrained", group: {"optimizer": "sgd"}}
    said = rf"^{group}\.optimizer = 'sgd' needs {group}\.learning_rate: that of fine-tuning, {rate}, is AdamW's$"
    with pytest.raises(SettingsError, match=said):
        FitSettings.from_values(tuned)
    kind = TrainingSettings if group == "base" else SpecialistSettings
    with pytest.raises(SettingsError, match=said):
        FitSettings(**{**tuned, group: kind(optimizer="sgd")})
    given = FitSettings.from_values({**tuned, group: {"optimizer": "sgd", "learning_rate": 0.01}})
    assert FitSettings.from_values(given.to_values()) == given


def test_a_probe_is_one_for_all_classes_unless_more_are_asked_for() -> None:
    probe: dict[str, Any] = {"init": "pretrained", "specialist": {"trainable": "probe"}}
    settings = FitSettings.from_values(probe)
    assert (settings.partition.clusters, settings.specialist.epochs, settings.gate.passes) == ((1,), 1, 1.5)
    assert FitSettings.from_values(settings.to_values()) == settings
    assert FitSettings.from_values({**probe, "partition": {"clusters": [4]}}).partition.clusters == (4,)
    assert FitSettings(init="w.pt", specialist=SpecialistSettings(trainable="probe")).partition.clusters == (1,)


@pytest.mark.parametrize("values", [{}, {"weights": "mine.pt"}])
def test_a_probe_needs_the_weights_that_training_started_from(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"^specialist\.trainable = probe asks .*: give --init$"):
        FitSettings.from_values({**values, "specialist": {"trainable": "probe"}})


@pytest.mark.parametrize(("backbone", "rate"), [("mlp-256", 0.05), ("table-mlp-8", 0.05), ("linear", 0.2)])
def test_a_hidden_layer_of_vectors_takes_smaller_steps(backbone: str, rate: float) -> None:
    settings = FitSettings.from_values({"backbone": backbone})
    assert (settings.base.learning_rate, settings.specialist) == (rate, FitSettings().specialist)
    assert FitSettings.from_values({"backbone": backbone, "base": {"learning_rate": 0.1}}).base.learning_rate == 0.1
    adamw = FitSettings.from_values({"backbone": backbone, "base": {"optimizer": "adamw"}})
    assert adamw.base.learning_rate == ADAMW["learning_rate"]
    old = {**settings.to_values(), "base": FitSettings().to_values()["base"]}
    assert FitSettings.from_values(old).base.learning_rate == 0.2


def test_a_network_of_n_grams_takes_larger_steps() -> None:
    settings = FitSettings.from_values({"backbone": "ngram-64", "base": {"epochs": 3}})
    assert (settings.base.learning_rate, settings.base.clip_norm, settings.base.epochs) == (2.0, 1.0, 3)
    assert FitSettings(backbone="ngram-64", base=TrainingSettings(learning_rate=0.1)).base.learning_rate == 0.1
    assert settings.specialist == FitSettings().specialist
    # What an older run keeps.
    old = {**settings.to_values(), "base": FitSettings().to_values()["base"]}
    assert FitSettings.from_values(old).base.learning_rate == 0.2
