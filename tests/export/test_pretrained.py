import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

transformers = pytest.importorskip("transformers", reason="needs the extra `transformers`")

import coterie  # noqa: E402 - language.py needs transformers
from coterie.cli import main  # noqa: E402
from coterie.config import FitSettings  # noqa: E402
from coterie.errors import ExportError, SettingsError  # noqa: E402
from coterie.export.exporting import EXACT, export_run  # noqa: E402
from coterie.export.pretrained import PretrainedFolder  # noqa: E402
from coterie.run.load import load_ensemble  # noqa: E402
from helpers import FIXTURES  # noqa: E402
from language import WORDS, fine_tuned, text_about  # noqa: E402

# Each class a cluster: there is nothing to train.
ALONE = {
    "weights": "own",
    "partition": {"clusters": [4]},
    "gate": {"score": "entropy", "combiner": "compose", "top": 1, "routed": 0.0},
    "hardware": {"accelerator": "cpu", "precision": "fp32", "threads": 1},
}
LONG = "this is some apple" + " number" * 20


def fit_alone(out: Path, backbone: Path, **data: object) -> Path:
    coterie.fit(FitSettings.from_values({**ALONE, "backbone": f"transformers:{backbone}", "data": data}), out)
    return out


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rows = [
        (text_about(word if number % 5 else "oak", number), word) for word in WORDS for number in range(0, 1000, 25)
    ]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "all.csv", index=False)
    return fit_alone(folder / "run", fine_tuned(folder / "model", WORDS[::-1]), source=f"csv:{folder / 'all.csv'}")


def test_a_run_of_one_network_answers_by_the_pipeline_of_texts(texts: Path, tmp_path: Path, capsys) -> None:
    assert main(["export", str(texts), str(tmp_path / "made"), "--to", "transformers"]) == 0
    assert "and 0 answers changed" in capsys.readouterr().out
    described = json.loads((tmp_path / "made" / "export.json").read_text())
    assert described["parity"]["largest_difference"] < 1e-5
    assert described["temperature_in_head"] != 1
    classifier = transformers.pipeline("text-classification", model=str(tmp_path / "made"), device="cpu")
    ensemble = load_ensemble(texts, EXACT)
    asked = ["1 pear 2", "an elm", LONG]
    for text, proba_C in zip(asked, ensemble.predict_proba(asked), strict=True):
        (answer,) = classifier(text, truncation=True)
        assert answer["label"] == ensemble.labels.names[proba_C.argmax()]
        assert answer["score"] == pytest.approx(proba_C.max(), abs=1e-5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model whose images are resized, and their margins cut off."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    names = ["amber", "blue", "coral", "dun"]
    for split, count in (("train", 6), ("val", 6), ("test", 6)):
        for name in names:
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{number}.png")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    label = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
    config = transformers.ViTConfig(**sizes, **label, image_size=12, patch_size=6, initializer_range=0.5)
    transformers.ViTForImageClassification(config).save_pretrained(folder / "model")
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 12, "width": 12}, resample=2
    ).save_pretrained(folder / "model")
    return fit_alone(folder / "run", folder / "model", source=f"folder:{folder / 'data'}")


@pytest.mark.parametrize("weights", ["fp32", "fp16"])
def test_a_run_of_one_network_answers_by_the_pipeline_of_images(images: Path, tmp_path: Path, weights) -> None:
    close = 1e-5 if weights == "fp32" else 0.01
    parity = export_run(images, "transformers", tmp_path / "made", weights=weights)
    assert (parity.samples, parity.changed_answers) == (24, 0)
    assert parity.largest_difference < close
    classifier = transformers.pipeline("image-classification", model=str(tmp_path / "made"), device="cpu")
    assert classifier.model.dtype == (torch.float32 if weights == "fp32" else torch.float16)
    ensemble = load_ensemble(images, EXACT)
    # Resized by torchvision here and by Pillow there, which round alike but for a level of brightness.
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (50, 37, 3)).astype(np.uint8))
    scores = {each["label"]: each["score"] for each in classifier(picture, top_k=4)}
    (proba_C,) = ensemble.predict_proba([picture])
    np.testing.assert_allclose([scores[name] for name in ensemble.labels.names], proba_C, atol=0.02)


def test_what_no_folder_of_transformers_can_hold_is_refused(tmp_path: Path, monkeypatch) -> None:
    made = tmp_path / "made"
    with pytest.raises(SettingsError, match="--to transformers keeps weights as fp32 or fp16: int8 is for --to onnx"):
        PretrainedFolder("int8", raw=False)
    with pytest.raises(SettingsError, match="--raw-inputs is for graphs"):
        PretrainedFolder("fp32", raw=True)
    monkeypatch.chdir(FIXTURES)
    runs = FIXTURES / "runs"
    with pytest.raises(ExportError, match=r"several networks.*: coterie distil .*-on-features --out NEW makes one"):
        export_run(runs / "whole-on-features", "transformers", made)
    alone = shutil.copytree(runs / "blend-of-texts", tmp_path / "alone")
    manifest = json.loads((alone / "manifest.json").read_text())
    manifest["gate"]["threshold"] = None
    (alone / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="the base, a NGramNet, is no model of transformers: --to onnx and"):
        export_run(alone, "transformers", made)
    assert not made.exists()
