"""Encoded images of every kind, and broken ones."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from coterie.data.decode import FileImages
from coterie.errors import DataError
from coterie.inputs import MemorySamples, Samples
from data_files import (
    encode,
    load,
    picture,
    pixels,
    png,
    sizes,
    write_folder,
    write_parquet,
)


def broken_images() -> dict[str, bytes | None]:
    whole = png(0, (64, 64))
    return {
        "truncated PNG": whole[: len(whole) // 2],
        "truncated JPEG": encode(picture(0, (64, 64)), "JPEG")[:900],
        "not an image": b"these are not pixels",
        "empty": b"",
        "missing": None,
    }


@pytest.mark.parametrize("what", broken_images())
@pytest.mark.parametrize("memory_gib", [1, 0])
def test_a_broken_image_is_named_by_its_row(tmp_path: Path, what: str, memory_gib: float) -> None:
    images = [png(k, (64, 64)) for k in range(10)]
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, [*images[:7], broken_images()[what], *images[8:]])
    write_parquet(tmp_path / "test.parquet", ["a", "b"], images[:2])
    with pytest.raises(DataError, match=r"(?s)1 image.*--data\.skip-broken.*row 7 of train: \w+"):
        load(f"parquet:{tmp_path}", memory_gib=memory_gib)
    splits = load(f"parquet:{tmp_path}", memory_gib=memory_gib, skip_broken=True)
    assert len(splits.train) + len(splits.validation) == 9
    assert len(splits.skipped) == 1
    assert "row 7 of train" in splits.skipped[0]
    expected = {np.asarray(picture(k, (64, 64))).tobytes(): k % 2 for k in range(10) if k != 7}
    for split in (splits.train, splits.validation):
        for image, label in zip(pixels(split), split.labels_N.tolist(), strict=True):
            assert expected[image.tobytes()] == label


def test_many_broken_images_fit_on_one_screen(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 50, [png(0), png(1)] + [b"no"] * 98)
    with pytest.raises(DataError, match=r"98 images") as caught:
        load(f"parquet:{tmp_path}")
    assert len(str(caught.value).splitlines()) < 20


def test_no_good_image_at_all(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, [b"no"] * 10)
    with pytest.raises(DataError, match="no image can be read; row 9 of train: not an image"):
        load(f"parquet:{tmp_path}")


def test_a_class_whose_images_are_all_broken(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b", "c"] * 4, [png(0), png(1), b"no"] * 4)
    with pytest.raises(DataError, match=r"no training sample for 1 class: c"):
        load(f"parquet:{tmp_path}", skip_broken=True)


def test_several_sizes_are_refused_with_an_example_and_the_option(tmp_path: Path) -> None:
    images = [png(0), png(1), png(2, (20, 12)), png(3, (9, 9))] * 4
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 8, images)
    with pytest.raises(DataError, match=r"3 sizes.*12 x 12.*20 x 12 \(row 2 of train\).*--data\.image-size"):
        load(f"parquet:{tmp_path}")


def test_image_size_scales_the_shorter_side_and_crops_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, :16], wide[:, 16:32], wide[:, 32:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    tall = wide.transpose(1, 0, 2)
    images = [encode(Image.fromarray(array)) for array in (wide, np.ascontiguousarray(tall))] * 5
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, images)
    splits = load(f"parquet:{tmp_path}", image_size=8)
    assert splits.train.samples.shape == (8, 8, 3)
    inner = pixels(splits.train)[:, 1:-1, 1:-1]  # antialiasing mixes the borders
    assert (inner == [0, 255, 0]).all()


def test_grey_only_if_all_images_are(tmp_path: Path) -> None:
    grey, colour = [png(k, mode="L") for k in range(10)], [png(k) for k in range(10)]
    write_parquet(tmp_path / "grey" / "train.parquet", ["a", "b"] * 5, grey)
    write_parquet(tmp_path / "mixed" / "train.parquet", ["a", "b"] * 5, [*grey[:9], colour[9]])
    assert load(f"parquet:{tmp_path}/grey").train.samples.shape == (12, 12, 1)
    assert load(f"parquet:{tmp_path}/mixed").train.samples.shape == (12, 12, 3)


def test_many_kinds_of_pixels(tmp_path: Path) -> None:
    """Palettes, transparency, 16 bits, bilevel, CMYK: decoded without a warning, to the colours they stand for."""
    red = Image.new("RGB", (12, 12), (255, 0, 0))
    palette = Image.new("P", (12, 12), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    images = [
        encode(palette, transparency=bytes([255, 0])),
        encode(red.convert("RGBA")),
        encode(red.convert("CMYK"), "TIFF"),
        encode(red, "GIF"),
    ]
    write_parquet(tmp_path / "c" / "train.parquet", ["a", "b"] * 4, images * 2)
    splits = load(f"parquet:{tmp_path}/c")
    assert (pixels(splits.train) == [255, 0, 0]).all()
    deep = Image.fromarray(np.full((12, 12), 128 * 256, np.uint16))
    write_parquet(tmp_path / "g" / "train.parquet", ["a", "b"] * 4, [encode(deep)] * 8)
    assert (pixels(load(f"parquet:{tmp_path}/g").train) == 128).all()


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 5, [encode(image, "JPEG", exif=exif, quality=95)] * 10)
    splits = load(f"parquet:{tmp_path}")
    assert splits.train.samples.shape == (32, 16, 3)
    top, bottom = pixels(splits.train)[0, :14], pixels(splits.train)[0, 18:]
    assert top.min() > 200
    assert bottom.max() < 50


def read_all(images: Samples) -> np.ndarray:
    return images.read(torch.arange(len(images))).numpy()


def test_beyond_memory_images_stay_encoded_and_are_the_same(tmp_path: Path) -> None:
    images = [png(k, (20 + k % 3, 24)) for k in range(40)]
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 20, images)
    inside, outside = (load(f"parquet:{tmp_path}", image_size=16, memory_gib=gib) for gib in (1, 0))
    for name in ("train", "validation", "test"):
        memory, files = getattr(inside, name), getattr(outside, name)
        assert isinstance(memory.samples, MemorySamples)
        assert isinstance(files.samples, FileImages)
        assert torch.equal(memory.labels_N, files.labels_N)
        assert memory.samples.shape == files.samples.shape == (16, 16, 3)
        np.testing.assert_array_equal(read_all(memory.samples), read_all(files.samples))
        rows = torch.tensor([3, 1, 3])
        np.testing.assert_array_equal(read_all(memory.samples.take(rows)), read_all(files.samples.take(rows)))


def test_the_limit_is_on_all_splits_together(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 20)
    n_bytes = 40 * 12 * 12 * 3
    assert isinstance(load(f"parquet:{tmp_path}", memory_gib=n_bytes / 2**30).train.samples, MemorySamples)
    assert isinstance(load(f"parquet:{tmp_path}", memory_gib=(n_bytes - 1) / 2**30).train.samples, FileImages)


def test_encoded_images_go_to_workers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["a", "b"] * 20)
    images = load(f"parquet:{tmp_path}", memory_gib=0).train.samples
    copied = pickle.loads(pickle.dumps(images))  # as a DataLoader does
    np.testing.assert_array_equal(read_all(copied), read_all(images))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of fork in a process with threads
        loader = DataLoader(_Rows(images), batch_size=7, num_workers=1)
        np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in loader]), read_all(images))


class _Rows(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, images: Samples) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.images.read(torch.tensor([row]))[0]


def test_a_file_that_breaks_after_loading_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    images = load(f"folder:{tmp_path}", memory_gib=0).train.samples
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no")
    with pytest.raises(DataError, match=r"cannot decode .*\.png: not an image"):
        read_all(images)


@pytest.mark.parametrize("kind", ["EPS", "MSP", "SPIDER"])
def test_formats_that_people_do_not_have_are_not_opened(tmp_path: Path, kind: str) -> None:
    content = {"EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 12\n"}.get(kind) or encode(
        picture(0, mode="L").convert("1" if kind == "MSP" else "F"), kind
    )
    write_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "cat" / "evil.png").write_bytes(content)
    reason = r"PostScript \(draw it as PNG\)" if kind == "EPS" else r"not an image in any known format \(JPEG, PNG, "
    with pytest.raises(DataError, match=rf"evil\.png: {reason}"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "PCX", "TGA", "SGI"])
def test_formats_that_people_have_are_read_by_content(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "cat" / "other.jpg").write_bytes(encode(picture(0), kind))
    assert sum(sizes(load(f"folder:{tmp_path}"))) == 21
