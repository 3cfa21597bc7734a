"""What specialists are where nobody said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coterie.backbones.base import Base, make_base
from coterie.cli import main
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, SettingsError
from coterie.pipeline.defaults import with_backbone
from coterie.pipeline.recipe import LARGEST_TAIL, with_recipe
from coterie.run.folder import Run
from helpers import make_splits

DEEP: dict[str, Any] = {"backbone": "convnet-8", "base": {"epochs": 20, "learning_rate": 0.3}}


@pytest.fixture(scope="module")
def many() -> Splits:
    """Of enough classes for nine clusters."""
    return make_splits(n_classes=20, n_per_class=8)


def found(values: dict[str, Any], splits: Splits, seconds: float = 1.0) -> FitSettings:
    settings = FitSettings.from_values(values)
    base = make_base(settings, splits.labels, splits.preprocessing)
    filled, said = with_recipe(settings, base, splits, lambda: seconds)
    assert said.startswith(f"recipe {filled.recipe}: ")
    return filled


def test_a_deep_network_gets_tails_of_two_partitions(many: Splits) -> None:
    settings = found(DEEP, many)
    assert settings.recipe == "tails"
    assert settings.specialist.trainable == "last-3"  # the last of three stages, and the head
    assert (settings.partition.clusters, settings.partition.together) == ((9, 3), True)
    assert (settings.specialist.learning_rate, settings.specialist.schedule) == (0.3, "cosine")
    assert settings.partition.least_open == 0.5
    assert settings.gate.passes == 1.5
    assert 1.2 <= settings.specialist.bits <= 2


def test_the_budget_sets_the_epochs(many: Splits) -> None:
    """Half of 20 epochs: of whole networks all of them, of a pair of tails what is left beside four views each."""
    assert found({**DEEP, "recipe": "whole"}, many).specialist.epochs == 10
    assert found({**DEEP, "recipe": "whole", "budget": "0.25"}, many).specialist.epochs == 5
    # 20 epochs of 3 s take a minute, of which half a minute is half.
    assert found({**DEEP, "recipe": "whole", "budget": "30s"}, many, seconds=3.0).specialist.epochs == 10
    assert found({**DEEP, "recipe": "whole", "specialist": {"epochs": 7}}, many).specialist.epochs == 7
    cost = 0.44  # of the last stage, by its operations
    tails = found(DEEP, many).specialist
    assert tails.epochs == pytest.approx((10 / 2 - tails.views * (1 - cost) / 3) / cost, abs=2)


def test_the_storage_sets_the_bits(many: Splits) -> None:
    pair = {**DEEP, "partition": {"clusters": [9, 3]}}
    bits = [found({**pair, "storage": storage}, many).specialist.bits for storage in (1.8, 1.9, 100.0)]
    assert bits[0] < bits[1] < bits[2] == 32
    whole = found({**DEEP, "recipe": "whole", "storage": 2.0}, many)
    assert 1.2 < whole.specialist.bits < 32 / 9  # less what vectors, heads and names take
    # More change next to nothing, so less storage is used than there may be.
    assert found({**DEEP, "recipe": "whole", "storage": 4.0}, many).specialist.bits == 1.8
    assert found({**DEEP, "recipe": "copy", "storage": 2.0}, many).specialist.bits == 32


def test_as_many_clusters_are_trained_as_the_storage_has_room_for(many: Splits) -> None:
    found_in = [found({**DEEP, "storage": storage}, many) for storage in (2.0, 1.6, 1.3)]
    assert [settings.partition.clusters for settings in found_in] == [(9, 3), (9,), (3,)]
    assert [settings.partition.together for settings in found_in] == [True, False, False]
    assert all(settings.specialist.bits >= 1.2 for settings in found_in)
    # One partition has the epochs of two.
    assert found_in[1].specialist.epochs > found_in[0].specialist.epochs


def test_what_was_given_stays(many: Splits) -> None:
    given: dict[str, Any] = {
        "specialist": {"epochs": 3, "bits": 5, "views": 0},
        "partition": {"clusters": [4, 5]},
        "gate": {"score": "entropy", "threshold": 0.5},
    }
    settings = found({**DEEP, **given}, many)
    assert (settings.specialist.epochs, settings.specialist.bits, settings.specialist.views) == (3, 5, 0)
    assert (settings.partition.clusters, settings.partition.together) == ((4, 5), False)
    # Who names anything of the partition gets it, whatever the base's errors are.
    assert settings.partition.least_open == 0
    assert found({**DEEP, "partition": {"method": "kmeans"}}, many).partition.least_open == 0
    assert found({**DEEP, "recipe": "whole"}, many).partition.least_open == 0
    assert (settings.gate.threshold, settings.gate.passes) == (0.5, None)
    assert settings.recipe == "tails"
    assert found({**DEEP, "specialist": {"trainable": "all"}}, many).recipe == "whole"
    assert found({**DEEP, "specialist": {"trainable": "stage2"}}, many).specialist.trainable == "stage2"


def test_settings_that_name_all_stay_as_they_are(settings: FitSettings, splits: Splits) -> None:
    assert with_recipe(settings, make_base(settings, splits.labels, splits.preprocessing), splits, lambda: 1.0) == (
        settings,
        "",
    )


def test_few_classes_get_few_clusters(splits: Splits) -> None:
    assert found(DEEP, splits).partition.clusters == (4, 3)  # of 8 classes
    assert found(DEEP, make_splits(n_classes=4)).partition.clusters == (2,)
    assert found(DEEP, make_splits(n_classes=3)).partition.clusters == (1,)


def test_one_partition_is_trained_for_longer_where_two_would_be_short(many: Splits) -> None:
    short = found({**DEEP, "base": {"epochs": 7}}, many)
    assert (short.partition.clusters, short.partition.together) == ((9,), False)
    assert short.specialist.epochs > 3


def test_the_paper_has_whole_networks_asked_at_high_entropy(many: Splits) -> None:
    settings = found({**DEEP, "recipe": "paper"}, many)
    assert (settings.specialist.trainable, settings.specialist.bits, settings.specialist.epochs) == ("all", 32, 15)
    assert (settings.gate.score, settings.gate.combiner, settings.gate.passes) == ("entropy", "hard", None)
    assert settings.partition.clusters == (9,)


def test_a_base_that_is_fine_tuned_gets_a_probe(many: Splits) -> None:
    settings = FitSettings.from_values({**DEEP, "init": "weights.safetensors"})
    fresh = make_base(FitSettings.from_values(DEEP), many.labels, many.preprocessing)
    filled, _ = with_recipe(settings, Base(fresh.network, fresh.head, False, fresh.form), many, lambda: 1.0)
    assert (filled.recipe, filled.specialist.trainable) == ("probe", "probe")
    assert (filled.partition.clusters, filled.gate.passes) == ((1,), 1.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "whole", "budget": "0.01"}, r"budget = '0.01': .* at least 0.03 of the base's training"),
        ({"recipe": "whole", "budget": "1s"}, r"budget = '1s': .* at least 0.03"),
        ({"storage": 1.01}, r"storage = 1.01: 3 specialists take more; allowed: at least 1\.\d\d times"),
    ],
)
def test_what_nothing_fits_in_is_refused_with_the_least_that_does(
    values: dict[str, Any], message: str, many: Splits
) -> None:
    with pytest.raises(SettingsError, match=message):
        found({**DEEP, **values}, many, seconds=10.0)


@pytest.mark.parametrize("wrong", ["0", "much", "-1", "5 apples"])
def test_a_budget_is_a_share_or_a_duration(wrong: str) -> None:
    with pytest.raises(SettingsError, match="budget"):
        FitSettings.from_values({"budget": wrong})


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Options of a run of a second on features."""
    label_N = np.arange(160) % 8
    features_ND = np.eye(8)[label_N] + np.random.default_rng(0).normal(scale=0.5, size=(160, 8))
    np.savez(tmp_path / "data.npz", features=features_ND, labels=label_N)
    base = ["--base.epochs", "4", "--base.batch-size", "16", "--hardware.threads", "1"]
    return ["fit", "--data.source", f"features:{tmp_path / 'data.npz'}", "--backbone", "mlp-8", *base]


def test_a_shallow_network_gets_a_copy_and_the_manifest_says_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*command, "--out", str(out)]) == 0
    assert "recipe copy: " in capsys.readouterr().out
    stored = Run.open(out).settings
    assert (stored.recipe, stored.partition.clusters, stored.specialist.epochs) == ("copy", (1,), 2)
    # The same command, and one with what came of it, find the run as it is.
    again = FitSettings.from_values({"backbone": "mlp-8"})
    assert with_backbone(again, out)[0].specialist == stored.specialist
    assert main([*command, "--out", str(out)]) == 0
    (tmp_path / "all.yaml").write_text(stored.to_yaml())
    assert main(["fit", "--config", str(tmp_path / "all.yaml"), "--out", str(tmp_path / "again")]) == 0
    (kept,) = [name for name in Run.open(out).manifest.files if name.startswith("specialist")]
    assert (out / kept).read_bytes() == (tmp_path / "again" / kept).read_bytes()


def test_the_same_command_finds_a_probe_of_a_backbone_that_was_chosen(tmp_path: Path) -> None:
    """Neither the backbone nor the weights that it starts from were named."""
    found = FitSettings.from_values({"backbone": "convnet-8", "init": "w.safetensors", "recipe": "probe"})
    probing = {"specialist": {"trainable": "probe"}, "partition": {"clusters": [1]}, "gate": {"passes": 1.5}}
    stored = FitSettings.from_values({**found.to_values(), **probing})
    run = Run.create_or_resume(tmp_path / "run", stored)
    with run.writing():
        run.update(settings=stored)
    again, why = with_backbone(FitSettings(), tmp_path / "run")
    assert (again.backbone, again.init, again.specialist.trainable, why) == ("convnet-8", "w.safetensors", "probe", "")
    assert again.gate.passes == 1.5


def test_another_recipe_is_another_run(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main([*command, "--out", str(out)]) == 0
    assert main([*command, "--recipe", "whole", "--out", str(out)]) == 1
    assert "holds another run" in capsys.readouterr().err
    # From its base, with what a recipe makes of it, not what the first one did.
    other = ["fit", "--base", str(out), "--recipe", "paper", "--out", str(tmp_path / "paper")]
    assert main(other) == 0
    assert Run.open(tmp_path / "paper").settings.gate.combiner == "hard"


def test_a_settings_file_keeps_what_it_says_beside_a_recipe(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("specialist: {epochs: 1}")
    whole = [*command, "--config", str(tmp_path / "some.yaml"), "--recipe", "whole", "--out", str(tmp_path / "run")]
    assert main(whole) == 0
    stored = Run.open(tmp_path / "run").settings
    assert (stored.specialist.epochs, stored.partition.clusters) == (1, (4,))


def test_tails_of_a_network_that_has_none_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--recipe", "tails", "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "recipe = 'tails'" in said
    assert f"at most {LARGEST_TAIL:g} of its operations; allowed: copy, whole, paper" in said


def test_passes_is_the_gates(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--passes", "1.2", "--out", str(tmp_path / "run")]) == 0
    assert Run.open(tmp_path / "run").settings.gate.passes == 1.2


def test_a_run_of_an_earlier_version_had_whole_networks(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main([*command, "--out", str(out)]) == 0
    manifest = Run.open(out).manifest
    old = {k: v for k, v in manifest.settings.to_values().items() if k not in {"recipe", "budget", "storage"}}
    read = type(manifest).model_validate({**manifest.model_dump(mode="json"), "settings": old}).settings
    assert (read.recipe, read.given()) == ("whole", read.to_values())
    with pytest.raises(ArtifactError, match=r"partition\.clusters"):
        Run.create_or_resume(out, FitSettings.from_values({**old, "partition": {"clusters": [2]}}))
