from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import features

from coterie.data import encoded
from coterie.data.kinds import KINDS, kind_of_bytes, kind_of_suffix
from coterie.errors import DataError
from data_files import encode, load, picture, pixels, sizes, write_folder

HEADS = {
    "HEIC photograph": b"\0\0\0\x18ftypheic\0\0\0\0",
    "AVIF image": b"\0\0\0\x1cftypavif",
    "video": b"\0\0\0\x20ftypisom",
    "SVG drawing": b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg width='9'>",
    "PDF document": b"%PDF-1.7\n",
    "PostScript": b"%!PS-Adobe",
    "web page": b"\n<!DOCTYPE html><title>404</title>",
    "pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "archive": b"PK\x03\x04....",
    "Photoshop file": b"8BPS\0\1",
    "sound": b"RIFF\0\0\0\0WAVE",
    "DICOM file": bytes(128) + b"DICM",
}


@pytest.mark.parametrize("kind", HEADS)
def test_first_bytes_tell(kind: str) -> None:
    assert kind_of_bytes(HEADS[kind]) == kind
    assert kind in KINDS


def test_what_is_not_known_has_no_kind() -> None:
    assert kind_of_bytes(b"these are not pixels") == kind_of_bytes(b"") == kind_of_suffix(".xyz") == ""


def test_files_among_images_are_counted_by_kind(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    for name in ("a.mp4", "b.MOV", "c.pdf", "d.heic", "e.svg", "f.xyz"):
        (tmp_path / "cat" / name).write_bytes(b"?")
    with pytest.raises(DataError) as caught:
        load(f"folder:{tmp_path}")
    first, *lines = str(caught.value).splitlines()
    assert "2 x video (save its frames as images), 1 x PDF document" in first
    assert "1 x HEIC photograph (convert it to JPEG), 1 x SVG drawing (draw it as PNG)" in first
    assert any(line.endswith("f.xyz: not an image file (.xyz)") for line in lines)
    splits = load(f"folder:{tmp_path}", skip_broken=True)
    assert sum(sizes(splits)) == 20
    assert len(splits.skipped) == 6


def test_a_folder_of_nothing_else_names_them(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.heic").write_bytes(HEADS["HEIC photograph"])
    with pytest.raises(DataError, match=r"no image file in .*, but 2 x HEIC photograph \(convert it to JPEG\)"):
        load(f"folder:{tmp_path}")


def test_the_name_of_an_image_does_not_hide_what_it_is(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "cat" / "photo.jpg").write_bytes(HEADS["HEIC photograph"])
    (tmp_path / "cat" / "lost.jpg").write_bytes(HEADS["web page"])
    (tmp_path / "cat" / "none.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load(f"folder:{tmp_path}")
    for said in (
        "photo.jpg: HEIC photograph (convert it to JPEG)",
        "lost.jpg: web page (the download failed)",
        "none.jpg: an empty file",
    ):
        assert said in str(caught.value)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_real_avif_images_are_read_or_named_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for c, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for k in range(10):
            (tmp_path / name / f"{k}.avif").write_bytes(encode(picture(10 * c + k), "AVIF", quality=100))
    splits = load(f"folder:{tmp_path}")
    assert splits.train.samples.shape == (12, 12, 3)
    assert np.abs(pixels(splits.train).astype(int).mean() - 127) < 10

    whole = (tmp_path / "cat" / "0.avif").read_bytes()
    (tmp_path / "cat" / "0.avif").write_bytes(whole[:60])
    with pytest.raises(DataError, match=r"1 image cannot be decoded.*\n.*0\.avif: a broken AVIF image"):
        load(f"folder:{tmp_path}")

    (tmp_path / "cat" / "0.avif").write_bytes(whole)
    monkeypatch.setattr(encoded, "known_formats", lambda: ("JPEG", "PNG"))  # as a Pillow that reads none
    with pytest.raises(DataError, match=r"no image can be read; .*AVIF image \(convert it to JPEG: this Pillow"):
        load(f"folder:{tmp_path}")
