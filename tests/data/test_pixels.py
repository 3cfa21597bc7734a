"""Images of more than 8 bits and transparent ones, from files of every kind to 8-bit pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coterie.backbones.prescribed import prescribed_images
from coterie.config import DataSettings
from coterie.data import load as load_data
from coterie.data.decode import read_images
from coterie.data.pixels import levels_between, to_bytes
from coterie.errors import DataError, InputError, SettingsError
from coterie.inputs import ImagePreprocessing
from data_files import encode, load, picture, pixels, write_parquet


def png_of_16_bits(values_HWC: np.ndarray) -> bytes:
    """Which Pillow does not write: of 3 or 4 channels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values_HWC.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values_HWC)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def data_of(folder: Path, images: list[bytes], n: int = 5) -> str:
    write_parquet(folder / "train.parquet", ["a", "b"] * (len(images) * n // 2), images * n)
    write_parquet(folder / "test.parquet", ["a", "b"], images[:2])
    write_parquet(folder / "validation.parquet", ["a", "b"], images[:2])
    return f"parquet:{folder}"


def test_deep_values_are_spread_over_8_bits_by_the_range_of_the_training_images(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(100, 900, (4, 12, 12))
    for name, kind, cast, levels, step in (
        ("ten bits", "PNG", np.uint16, (0.0, 1024.0), 4),
        ("32 bits", "TIFF", np.int32, (0.0, 1024.0), 4),
        ("float", "TIFF", np.float32, (0.0, 1024.0), 4),
    ):
        images = [encode(Image.fromarray(each.astype(cast)), kind) for each in values]
        splits = load(data_of(tmp_path / name, images))
        assert splits.preprocessing.levels == levels, name
        np.testing.assert_array_equal(pixels(splits.train)[:4, ..., 0], values // step)
        assert "24 images of more than 8 bits: 0 to 1024 is black to white (--data.levels)" in splits.about


@pytest.mark.parametrize(
    ("low", "high", "whole", "levels"),
    [
        (0, 65535, True, (0, 65536)),
        (0, 200, True, (0, 256)),
        (0, 3, True, (0, 4)),
        (29000, 31000, True, (29000, 31001)),
        (-1000, 3000, True, (-1000, 3001)),
        (7, 7, True, (0, 256)),
        (0.0, 1.0, False, (0, 1)),
        (0.0, 0.9, False, (0, 1)),
        (0.1, 255.0, False, (0, 256)),
        (0.0, 0.0, False, (0, 1)),
        (-2.0, -2.0, False, (-2, -1)),
        (-0.5, 0.5, False, (-0.5, 0.5)),
    ],
)
def test_levels_are_those_of_the_bits_that_are_filled_or_else_of_the_values(
    low: float, high: float, whole: bool, levels: tuple[float, float]
) -> None:
    assert levels_between(low, high, whole=whole) == levels


def test_16_bits_over_all_of_their_range_become_their_upper_8() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_bytes(values, (0.0, 65536.0)), values >> 8)
    np.testing.assert_array_equal(to_bytes(np.array([-5, 0, 5, 9]), (0.0, 8.0)), [0, 0, 160, 255])


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_in_png_files_keep_what_the_lower_8_hold(tmp_path: Path, channels: int) -> None:
    values = np.random.default_rng(0).integers(100, 1024, (2, 12, 12, channels))
    splits = load(data_of(tmp_path, [png_of_16_bits(each) for each in values]), background="drop")
    np.testing.assert_array_equal(pixels(splits.train)[:2], values[..., :3] // 4)


def test_levels_go_with_the_run_to_new_images(tmp_path: Path) -> None:
    dark = [encode(Image.fromarray(np.full((12, 12), value, np.uint16))) for value in (100, 900)]
    splits = load(data_of(tmp_path / "train", dark))
    (tmp_path / "new.png").write_bytes(dark[0])
    new, _, _ = read_images([tmp_path / "new.png"], splits.preprocessing)
    assert (new.values_N == 25).all()
    # Data on which a run is judged is read by the run's levels, however bright it is itself.
    darker = data_of(tmp_path / "judged", dark[:1] * 2)
    judged = load_data(DataSettings(source=darker), 0, splits.preprocessing)
    assert (pixels(judged.test) == 25).all()
    # Runs of earlier versions know no levels: the upper 8 of 16 bits.
    old = load_data(DataSettings(source=darker), 0, ImagePreprocessing(12, 12, 1, (0.0,), (1.0,)))
    assert (pixels(old.test) == 0).all()
    assert old.preprocessing.levels is None


def test_levels_are_those_that_are_asked_for(tmp_path: Path) -> None:
    images = [encode(Image.fromarray(np.full((12, 12), value, np.uint16))) for value in (100, 900)]
    splits = load(data_of(tmp_path, images), levels=(0, 2000))
    assert splits.preprocessing.levels == (0, 2000)
    assert set(np.unique(pixels(splits.train))) == {12, 115}
    with pytest.raises(SettingsError, match=r"levels = \(5.*the first must be below the second"):
        DataSettings(levels=(5.0, 5.0))


def test_a_prescribed_size_leaves_levels_to_the_data(tmp_path: Path) -> None:
    images = [encode(Image.fromarray(np.full((40, 40), value, np.uint16))) for value in (100, 900)]
    form = prescribed_images("torchvision:resnet18", DataSettings(), pretrained=True)
    assert form is not None
    splits = load_data(DataSettings(source=data_of(tmp_path, images)), 0, form)
    assert splits.preprocessing.levels == (0, 1024)
    assert splits.preprocessing.resize == form.resize
    assert set(np.unique(pixels(splits.train))) == {25, 225}


def test_32_bits_without_levels_and_values_that_are_none_are_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a" / "train.parquet", ["a", "b"] * 5)
    floating = Image.fromarray(np.zeros((12, 12), np.float32))
    write_parquet(tmp_path / "a" / "test.parquet", ["a", "b"], [encode(floating, "TIFF")] * 2)
    with pytest.raises(DataError, match=r"row 0 of test: 32 bits a pixel, .* black and white; --data\.levels"):
        load(f"parquet:{tmp_path}/a")
    hole = Image.fromarray(np.full((12, 12), np.nan, np.float32))
    write_parquet(
        tmp_path / "b" / "train.parquet", ["a", "b"] * 2, [encode(floating, "TIFF")] * 3 + [encode(hole, "TIFF")]
    )
    with pytest.raises(DataError, match="row 3 of train: a pixel is NaN or infinite"):
        load(f"parquet:{tmp_path}/b")


def transparent() -> list[bytes]:
    """Half black and opaque, half transparent above blue: of every mode that can say so."""
    image = Image.new("RGBA", (12, 12), (0, 0, 255, 0))
    image.paste((0, 0, 0, 255), (0, 0, 6, 12))
    palette = Image.new("P", (12, 12), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.paste(0, (0, 0, 6, 12))
    key = Image.new("RGB", (12, 12), (0, 0, 255))
    key.paste((0, 0, 0), (0, 0, 6, 12))
    return [
        encode(image),
        encode(image, "WEBP", lossless=True, exact=True),
        encode(palette, transparency=1),
        encode(key, transparency=(0, 0, 255)),
    ]


@pytest.mark.parametrize(
    ("background", "seen"), [(None, [255] * 3), ("black", [0] * 3), ("#102030", [16, 32, 48]), ("drop", [0, 0, 255])]
)
def test_transparent_pixels_show_the_background(tmp_path: Path, background: str | None, seen: list[int]) -> None:
    splits = load(data_of(tmp_path, transparent()), background=background)
    found = pixels(splits.train)
    assert (found[:, :, :6] == 0).all()
    assert (found[:, :, 6:] == seen).all()
    said = "transparency dropped, which shows" if background == "drop" else f"over #{bytes(seen).hex()}"
    assert f"24 images with transparency: {said}" in splits.about
    (tmp_path / "new.png").write_bytes(transparent()[0])
    new, _, _ = read_images([tmp_path / "new.png"], splits.preprocessing)
    assert (new.values_N[0, :, 6:].numpy() == seen).all()


def test_grey_images_and_opaque_ones_keep_their_values_over_any_background(tmp_path: Path) -> None:
    grey = picture(0, mode="L")
    faded = grey.copy()
    faded.putalpha(Image.new("L", grey.size, 0))
    splits = load(data_of(tmp_path / "grey", [encode(grey), encode(faded)]))
    np.testing.assert_array_equal(pixels(splits.train)[0, ..., 0], np.asarray(grey))
    assert (pixels(splits.train)[1] == 255).all()
    colour = picture(1)
    opaque = [encode(colour.convert("RGBA")), encode(colour)]
    one, other = pixels(load(data_of(tmp_path / "colour", opaque)).train)[:2]
    np.testing.assert_array_equal(one, other)


def test_a_run_of_an_earlier_version_drops_transparency_and_a_library_does_so_too(tmp_path: Path) -> None:
    source = data_of(tmp_path, transparent())
    old = ImagePreprocessing(12, 12, 3, (0.0,) * 3, (1.0,) * 3)
    assert (pixels(load_data(DataSettings(source=source), 0, old).test)[:, :, 6:] == [0, 0, 255]).all()
    form = prescribed_images("torchvision:resnet18", DataSettings(), pretrained=True)
    splits = load_data(DataSettings(source=source), 0, form)
    assert "transparency dropped" in splits.about
    assert (pixels(splits.train)[0, 0, -1] == [0, 0, 255]).all()
    white = load_data(DataSettings(source=source, background="white"), 0, form)
    assert (pixels(white.train)[0, 0, -1] == 255).all()


def test_a_background_that_is_no_colour_is_named() -> None:
    with pytest.raises(SettingsError, match=r"background = 'wite': must be drop, #rrggbb, or the name of a colour"):
        DataSettings(background="wite")
    with pytest.raises(InputError, match=r"a background is red, green and blue"):
        ImagePreprocessing(12, 12, 1, (0.0,), (1.0,), background=(1, 2))
    with pytest.raises(InputError, match=r"levels are two numbers"):
        ImagePreprocessing(12, 12, 1, (0.0,), (1.0,), levels=(2.0, 1.0))
