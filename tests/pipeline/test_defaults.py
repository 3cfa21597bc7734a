"""The backbone of a run that names none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coterie.backbones.packages import LITE0, MINILM
from coterie.config import FitSettings
from coterie.errors import SettingsError
from coterie.pipeline import defaults
from coterie.pipeline.defaults import with_backbone
from coterie.run.folder import Run
from helpers import make_splits


class Installed:
    distribution = "a-package"


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    rows = [f"text number {k},{'ab'[k % 2]}" for k in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "r.csv").write_text("\n".join(["x,y,label", *(f"{k},{k * k},{'ab'[k % 2]}" for k in range(8))]))
    np.savez(tmp_path / "f.npz", features=np.zeros((8, 3)), labels=np.arange(8) % 2)
    for name, size in (("small", 32), ("large", 120)):
        for k in range(4):
            (tmp_path / name / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (size, size), (k, 9, 9)).save(tmp_path / name / "ab"[k % 2] / f"{k}.png")
    return {
        "texts": f"csv:{tmp_path / 't.csv'}",
        "rows": f"csv:{tmp_path / 'r.csv'}",
        "features": f"features:{tmp_path / 'f.npz'}",
        "small": f"folder:{tmp_path / 'small'}",
        "large": f"folder:{tmp_path / 'large'}",
    }


def chosen(source: str, **data: object) -> tuple[str, str | None]:
    settings, why = with_backbone(FitSettings.from_values({"data": {"source": source, **data}}))
    assert why.startswith(f"backbone: {settings.backbone}")
    return settings.backbone, settings.init


@pytest.mark.parametrize("installed", [True, False])
def test_each_kind_of_data_gets_the_best_that_is_installed(
    sources: dict[str, str], installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "installed_package", lambda _: Installed() if installed else None)
    pytest.importorskip("timm", reason="needs the extra `timm`")
    pytest.importorskip("transformers", reason="needs the extra `transformers`")
    assert chosen("glyphs") == ("convnet-64", None)
    assert chosen(sources["small"]) == ("convnet-64", None)
    assert chosen(sources["large"]) == ((LITE0, "pretrained") if installed else ("convnet-64", None))
    assert chosen(sources["large"], image_size=32) == ("convnet-64", None)
    assert chosen(sources["texts"]) == ((MINILM, "pretrained") if installed else ("ngram-64", None))
    assert chosen(sources["texts"], text_as="minilm") == ("linear", None)
    assert chosen(sources["rows"], label="label") == ("table-mlp-128", None)
    assert chosen(sources["features"]) == ("mlp-256", None)


def test_a_chosen_backbone_brings_its_own_defaults(sources: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="needs the extra `transformers`")
    monkeypatch.setattr(defaults, "installed_package", lambda _: Installed())
    values = {"data": {"source": sources["texts"]}, "base": {"epochs": 2}}
    settings, _ = with_backbone(FitSettings.from_values(values))
    assert (settings.base.epochs, settings.base.optimizer) == (2, "adamw")
    named = FitSettings.from_values({**values, "backbone": "ngram-64"})
    assert with_backbone(named) == (named, "")


@pytest.mark.parametrize("kind", ["texts", "rows", "features", "small"])
def test_a_chosen_backbone_is_trained_as_a_named_one(
    kind: str, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "installed_package", lambda _: None)
    values = {"data": {"source": sources[kind], "label": "label"}}
    settings, _ = with_backbone(FitSettings.from_values(values))
    assert settings == FitSettings.from_values({**values, "backbone": settings.backbone})
    assert settings.given() == {**values, "backbone": settings.backbone}


def test_a_run_keeps_its_backbone(tmp_path: Path, settings: FitSettings) -> None:
    kept = FitSettings.from_values({"backbone": "convnet-8", "init": "w.pt"})
    run = Run.create_or_resume(tmp_path / "run", kept)
    with run.writing():
        run.update(settings=kept)
    again, why = with_backbone(FitSettings(), tmp_path / "run")
    assert (again.backbone, again.init, why) == ("convnet-8", "w.pt", "")
    assert again == kept


def test_splits_from_python_are_looked_at() -> None:
    assert with_backbone(FitSettings(), splits=make_splits())[0].backbone == "convnet-64"


def test_weights_need_the_network_that_they_are_of() -> None:
    for name in ("weights", "init"):
        with pytest.raises(SettingsError, match=f"{name} = 'w.pt': name the network that it is of by --backbone"):
            with_backbone(FitSettings(**{name: "w.pt"}))


def test_pretrained_weights_choose_the_network_that_is_installed(
    sources: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm", reason="needs the extra `timm`")
    monkeypatch.setattr(defaults, "installed_package", lambda _: Installed())
    asked = FitSettings.from_values({"data": {"source": sources["small"], "image_size": 96}, "init": "pretrained"})
    settings, why = with_backbone(asked)
    assert (settings.backbone, settings.init) == (LITE0, "pretrained")
    assert "with pretrained weights" in why
    with pytest.raises(SettingsError, match=r"init = 'pretrained': .* convnet-64, for small .*--data.image-size"):
        with_backbone(FitSettings.from_values({"data": {"source": sources["small"]}, "init": "pretrained"}))
