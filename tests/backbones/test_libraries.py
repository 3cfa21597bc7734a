"""Image classifiers of transformers, tiny and without weights from anywhere."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import coterie
from coterie.backbones.base import make_base
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import BackboneError
from coterie.labels import LabelSpace
from coterie.run.folder import Run
from helpers import image_form

transformers = pytest.importorskip("transformers", reason="needs the extra `transformers`")

NAMES = tuple(f"class {k}" for k in range(8))
PREPROCESSING = image_form(1, side=12)
EXAMPLE = PREPROCESSING.example()


def config(**values: object):
    return transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=12,
        patch_size=6,
        num_channels=1,
        **values,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as fine-tuning leaves it, whose classes are in an order of its own."""
    torch.manual_seed(0)
    names = dict(enumerate(reversed(NAMES)))
    model = transformers.ViTForImageClassification(config(id2label=names, label2id={n: k for k, n in names.items()}))
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def base_of(settings: FitSettings, place: Path, names: tuple[str, ...] = NAMES):
    ours = FitSettings.from_values({**settings.to_values(), "backbone": f"transformers:{place}"})
    return make_base(ours, LabelSpace(names), PREPROCESSING)


def test_a_model_that_was_trained_to_find_several_classes_is_said_to_be(folder: Path, settings: FitSettings) -> None:
    assert "several classes" not in base_of(settings, folder).form.origin
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "problem_type": "multi_label_classification"}))
    assert base_of(settings, folder).form.origin.startswith("by its problem_type it was trained to find several")


def test_a_fine_tuned_model_is_taken_with_its_weights_and_matched_by_its_names(
    folder: Path, settings: FitSettings
) -> None:
    base = base_of(settings, folder)
    model = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    assert base.trained
    assert base.form.output == "logits"
    assert base.form.reordered
    torch.testing.assert_close(base.network(EXAMPLE), model(EXAMPLE).logits.flip(1))
    with pytest.raises(BackboneError, match="only the network has class 0; only the data has zebra"):
        base_of(settings, folder, ("zebra", *NAMES[1:]))
    with pytest.raises(BackboneError, match=r"gives 8 classes.*the data has 9 classes"):
        base_of(settings, folder, (*NAMES, "class 8"))


def test_a_run_needs_the_models_folder_no_more(
    folder: Path, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    ours = FitSettings.from_values({**settings.to_values(), "backbone": f"transformers:{folder}"})
    fitted = coterie.fit(ours, tmp_path / "run", splits=splits)
    shutil.rmtree(folder)
    loaded = coterie.load(tmp_path / "run")
    np.testing.assert_array_equal(fitted.predict_proba(splits.test.samples), loaded.predict_proba(splits.test.samples))
    other = FitSettings.from_values({**ours.to_values(), "partition": {"clusters": [2]}})
    coterie.fit(other, tmp_path / "other", splits=splits, base_run=tmp_path / "run")
    weights = [Run.open(tmp_path / name).read("base.safetensors") for name in ("run", "other")]
    assert weights[0] == weights[1]


def test_a_folder_with_a_configuration_only_is_a_base_to_train(tmp_path: Path, settings: FitSettings) -> None:
    config(num_labels=8).save_pretrained(tmp_path)
    assert not base_of(settings, tmp_path).trained


def test_a_configuration_that_names_code_does_not_get_it_run(folder: Path, settings: FitSettings) -> None:
    (folder / "modeling_evil.py").write_text("raise RuntimeError('was run')")
    values = json.loads((folder / "config.json").read_text())
    values["auto_map"] = {"AutoModelForImageClassification": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(values))
    assert type(base_of(settings, folder).network.network).__module__.startswith("transformers.")


def test_a_model_that_is_no_image_classifier_is_named(tmp_path: Path, settings: FitSettings) -> None:
    transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=r"transformers cannot build this image classifier"):
        base_of(settings, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BackboneError, match=r"transformers cannot load "):
        base_of(settings, tmp_path)
