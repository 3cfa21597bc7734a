"""A network's own preprocessing: what it sees is what its library would give it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from coterie.backbones.base import preprocessing_of_base
from coterie.backbones.prescribed import prescribed_images, processor_form
from coterie.config import DataSettings, FitSettings
from coterie.data.decode import read_images, resize_like
from coterie.errors import BackboneError
from coterie.inputs import ImagePreprocessing, MemorySamples

timm = pytest.importorskip("timm", reason="needs the extra `timm`")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Pictures of several sizes and proportions, one of them grey."""
    rng = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(200, 150), (150, 201), (300, 300), (40, 61)]):
        small = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        paths.append(tmp_path / f"{number}.png")
        (image.convert("L") if number == 1 else image).save(paths[-1])
    return paths


def inputs_of(form: ImagePreprocessing, files: list[Path]) -> torch.Tensor:
    samples, _, _ = read_images(files, form)
    return form(samples.read(torch.arange(len(samples))))


def opened(files: list[Path]) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in files]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_vit", "convnext_nano", "coat_tiny"])
def test_of_timm(name: str, files: list[Path]) -> None:
    form = prescribed_images(f"timm:{name}", DataSettings(), pretrained=False)
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**config)
    theirs = torch.stack([transform(image) for image in opened(files)])
    torch.testing.assert_close(inputs_of(form, files), theirs, rtol=0, atol=2e-6)
    assert form.described.endswith(f"of timm:{name} by its pretrained_cfg")


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_v2_s"])
def test_of_torchvision(name: str, files: list[Path]) -> None:
    from torchvision import models

    form = prescribed_images(f"torchvision:{name}", DataSettings(), pretrained=False)
    transform = models.get_model_weights(name).DEFAULT.transforms()
    theirs = torch.stack([transform(image) for image in opened(files)])
    torch.testing.assert_close(inputs_of(form, files), theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("maker", "values"),
    [
        ("ViTImageProcessor", {"size": {"height": 24, "width": 30}, "resample": 3}),
        ("ViTImageProcessor", {"size": {"height": 24, "width": 24}, "do_normalize": False}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 20}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 24}}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
        ("LevitImageProcessor", {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}),
    ],
)
def test_of_transformers(maker: str, values: dict, files: list[Path], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra `transformers`")
    made = getattr(transformers, maker)(**values)
    made.save_pretrained(tmp_path / "model")
    form = prescribed_images(f"transformers:{tmp_path / 'model'}", DataSettings(), pretrained=False)
    theirs = made(opened(files), return_tensors="pt")["pixel_values"]
    ours = inputs_of(form, files)
    assert ours.shape == theirs.shape
    # The library resizes by torch, whose pixels differ from Pillow's by a level or two of 255.
    levels = (ours - theirs).abs() * torch.tensor(form.std)[:, None, None]
    assert float(levels.max()) < 2.01
    assert float(levels.mean()) < 0.1


def test_the_users_options_go_over_it() -> None:
    data = DataSettings(image_size=96, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    form = prescribed_images("timm:tf_efficientnet_lite0", data, pretrained=False)
    assert form.shape == (96, 96, 3)
    assert form.resize == (96,)
    assert form.mean == pytest.approx((25.5, 51, 76.5))
    assert form.origin.endswith("over it --data.image-size, --data.mean, --data.std")
    assert form.interpolation == "bicubic"


def test_only_trained_weights_bring_one() -> None:
    def of(**values: object) -> object:
        return preprocessing_of_base(FitSettings.from_values({"backbone": "timm:test_resnet", **values}))

    assert of() is None
    assert of(init="w.pt") == of(weights="w.pt")
    assert preprocessing_of_base(FitSettings(init="w.pt")) is None


def test_images_in_memory_are_made_as_files_are(files: list[Path]) -> None:
    form = prescribed_images("timm:test_resnet", DataSettings(), pretrained=False)
    pixels = np.stack([np.asarray(opened(files)[2])])
    resized = resize_like(MemorySamples(torch.from_numpy(pixels)), form)
    torch.testing.assert_close(form(resized.read(torch.tensor([0]))), inputs_of(form, files[2:3]))
    grey = MemorySamples(torch.full((1, 12, 12, 1), 7, dtype=torch.uint8))
    assert resize_like(grey, form).shape == form.shape


def test_a_processor_that_is_not_made_here_is_refused() -> None:
    with pytest.raises(BackboneError, match="blue first"):
        processor_form({"do_flip_channel_order": True}, "of x")
    with pytest.raises(BackboneError, match="not made of one size"):
        processor_form({"size": {"shortest_edge": 24}}, "of x")
    bordered = next(n for n in timm.list_models() if getattr(timm.get_pretrained_cfg(n), "crop_mode", "") == "border")
    with pytest.raises(BackboneError, match=f"timm:{bordered} takes images with a border"):
        prescribed_images(f"timm:{bordered}", DataSettings(), pretrained=True)
