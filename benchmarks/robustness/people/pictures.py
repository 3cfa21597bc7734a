"""Folders of images as people have them, tables that name them, and arrays of features."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.robustness.people.tables import Written

FORMATS = {
    "JPEG": ("jpg", ("L", "RGB", "CMYK", "YCbCr")),
    "PNG": ("png", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")),
    "GIF": ("gif", ("L", "P", "RGB")),
    "BMP": ("bmp", ("1", "L", "P", "RGB", "RGBA")),
    "TIFF": ("tif", ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I;16", "I", "F")),
    "WEBP": ("webp", ("RGB", "RGBA")),
    "ICO": ("ico", ("RGBA",)),
    "PPM": ("ppm", ("1", "L", "RGB", "I;16")),
    "TGA": ("tga", ("L", "RGB", "RGBA")),
    "PCX": ("pcx", ("L", "P", "RGB")),
    "SGI": ("rgb", ("L", "RGB")),
    "JPEG2000": ("jp2", ("L", "RGB", "RGBA")),
    "AVIF": ("avif", ("RGB", "RGBA")),
}
SIZES = ((16, 16),) * 6 + ((8, 8), (32, 20), (1, 1), (1, 400), (400, 1), (300, 200))
CLASS_NAMES = (
    *("cat", "dog", "Cat", "cat ", "ünï", "東京", "red fox", "-rf", "a'b", "a\nb", "0", "007", "1", "train", "test"),
    *(
        "val",
        "x" * 200,
        "None",
        "caf\u00e9",
        "cafe\u0301",
        "#1",
        "a.b",
        ".hidden",
        "__MACOSX",
        "😀",
        "[a]",
        "n01440764",
    ),
)
OTHER_FILES = {
    ".DS_Store": b"\0\0\0\1Bud1",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]",
    "readme.txt": b"images by hand",
    "._cat.png": b"\0\5\x16\7",
    "film.mp4": b"\0\0\0\x18ftypmp42",
    "scan.pdf": b"%PDF-1.7",
    "photo.heic": b"\0\0\0\x18ftypheic",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "all.zip": b"PK\3\4",
    "labels.csv": b"a,b\n1,2\n",
    "notes": b"",
    "picture.jpg.txt": b"x",
    "array.npy": b"\x93NUMPY",
}


def encoded(rng: Random, kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """An image file of random pixels."""
    noise = np.frombuffer(rng.randbytes(size[0] * size[1] * 4), np.uint8).reshape(size[1], size[0], 4)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * rng.choice((1, 4, 257)))
    elif mode in ("I", "F"):
        image = Image.fromarray(noise[..., 0].astype(np.int32 if mode == "I" else np.float32))
    else:
        image = Image.fromarray(noise, "RGBA" if mode in ("RGBA", "LA") else None).convert("RGBA")
        image = image if mode == "RGBA" else image.convert("RGB").convert(mode) if mode != "LA" else image.convert("LA")
    stream, options = io.BytesIO(), {}
    if kind in ("GIF", "TIFF", "PNG", "WEBP") and rng.random() < 0.1:
        options = {"save_all": True, "append_images": [image, image]}
    if kind in ("JPEG", "TIFF", "WEBP") and rng.random() < 0.2:
        exif = Image.Exif()
        exif[0x0112] = rng.randrange(10)
        options["exif"] = exif
    if kind == "PNG" and mode in ("P", "RGB", "L") and rng.random() < 0.1:
        options["transparency"] = {"RGB": (1, 2, 3)}.get(mode, 0)
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(rng: Random) -> tuple[bytes, str, str]:
    """An image file, most times a plain one; its suffix; and what is odd."""
    kind = rng.choice(("PNG", "PNG", "JPEG", "JPEG", *FORMATS)) if rng.random() < 0.5 else "PNG"
    suffix, modes = FORMATS[kind]
    mode = rng.choice(modes) if rng.random() < 0.4 else "RGB" if "RGB" in modes else modes[0]
    try:
        content = encoded(rng, kind, mode, rng.choice(SIZES) if rng.random() < 0.2 else (16, 16))
    except (OSError, ValueError, KeyError):  # a mode that this format does not have
        return encoded(rng, "PNG", "RGB", (16, 16)), "png", ""
    oddity = ""
    if rng.random() < 0.06:
        broken: dict[str, Callable[[], bytes]] = {
            "cut off": lambda: content[: rng.randrange(len(content))],
            "empty": lambda: b"",
            "text": lambda: b"404 not found",
            "web page": lambda: b"<html><body>403</body></html>",
            "zeros": lambda: bytes(500),
            "changed": lambda: b"".join((content[:40], rng.randbytes(20), content[60:])),
            "git lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "more behind": lambda: content + bytes(100),
            "bomb": lambda: content[:16] + b"\0\1\0\0\0\1\0\0" + content[24:],
        }
        oddity = rng.choice(list(broken))
        content = broken[oddity]()
    if rng.random() < 0.04:
        suffix = rng.choice(("jpg", "png", "gif", "JPG", "Png", "bmp", "tiff", "jpeg "))
    return content, suffix, f"{kind} {mode} {oddity}".strip()


def image_folder(rng: Random, folder: Path) -> Written:
    """A folder per class, or one per split of these; with all that lies among them."""
    names = rng.sample(CLASS_NAMES, rng.choice((1, 2, 2, 3, 4, 6))) if rng.random() < 0.4 else ["cat", "dog", "fox"]
    splits = rng.choice(
        ((".",),) * 4 + (("train", "test"), ("train", "val", "test"), ("Training", "validation"), ("a",))
    )
    odd = set()
    for split in splits:
        for name in names if rng.random() < 0.95 else names[1:]:
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for k in range(rng.choice((0, 2, 5, 8, 8, 8, 8, 8))):
                content, suffix, oddity = picture(rng)
                odd.add(oddity)
                (place / _file_name(rng, k, suffix)).write_bytes(content)
            if rng.random() < 0.15:
                other = rng.choice(list(OTHER_FILES))
                (place / other).write_bytes(OTHER_FILES[other])
                odd.add(other)
    for _ in range(rng.choice((0, 0, 1))):
        odd.add(_odd_place(rng, folder, names))
    options = _image_options(rng)
    return Written("folder:data", f"{splits} of {names}: {', '.join(sorted(odd))}"[:600], options)


def _file_name(rng: Random, k: int, suffix: str) -> str:
    name = f"{k}.{suffix}"
    return (
        rng.choice((f"größe {name}", f".{name}", f"-{name}", f"a\n{name}", str(k), f"{k}"))
        if rng.random() < 0.03
        else name
    )


def _odd_place(rng: Random, folder: Path, names: list[str]) -> str:
    first = next(path for path in [folder / names[0], folder / "train" / names[0], folder] if path.is_dir())
    oddities: dict[str, Callable[[], object]] = {
        "link to a folder": lambda: (folder / "linked").symlink_to(first.absolute()),
        "link in a circle": lambda: (first / "loop").symlink_to(folder.absolute()),
        "link to nothing": lambda: (first / "gone.png").symlink_to("nowhere.png"),
        "pipe": lambda: os.mkfifo(first / "pipe.png"),
        "empty folder": lambda: (folder / "nothing").mkdir(),
        "folder called as an image": lambda: (first / "x.png").mkdir(),
        "deeper": lambda: _deeper(rng, first),
        "image at the top": lambda: (folder / "top.png").write_bytes(_plain(rng)),
        "metadata": lambda: (folder / "metadata.csv").write_text("file_name,label\n" + f"{names[0]}/0.png,a\n" * 3),
        "json metadata": lambda: (first / "metadata.jsonl").write_text('{"file_name": "0.png", "label": 1}\n' * 2),
        "unreadable": lambda: (first / "0.png").chmod(0),
    }
    name = rng.choice(list(oddities))
    try:
        oddities[name]()
    except OSError:  # something of that name is there
        return ""
    return name


def _deeper(rng: Random, folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "x.png").write_bytes(_plain(rng))


def _plain(rng: Random) -> bytes:
    return encoded(rng, "PNG", "RGB", (16, 16))


def _image_options(rng: Random) -> dict[str, Any]:
    every: dict[str, Any] = {
        "skip_unknown": True,
        "merge_names": True,
        "levels": (0, 1000),
        "background": rng.choice(("black", "drop", "#12345678")),
        "augment": "photo",
        "memory_gib": 0,
        "modality": rng.choice(("image", "text")),
        "label": rng.choice(("label", "text")),
    }
    chosen = {name: every[name] for name in rng.sample(list(every), rng.choice((0, 0, 0, 1, 2)))}
    usual = {"image_size": 16, "skip_broken": True}
    return {**chosen, **{name: value for name, value in usual.items() if rng.random() < 0.85}}


def named_images(rng: Random, folder: Path) -> Written:
    """A table that names images, as paths of many kinds."""
    n, names = rng.choice((4, 12, 30)), ["cat", "dog"]
    below = rng.choice(("images", "Images of mine", "."))
    (folder / below).mkdir(exist_ok=True)
    rows, odd = [], set()
    style = rng.choice(("/", "/", "/", "\\", "absolute", "bare", "url", "stem", "./", "upper"))
    for k in range(n):
        content, suffix, oddity = picture(rng)
        odd.add(oddity)
        name = f"{k}.{suffix}"
        (folder / below / name).write_bytes(content)
        said = {
            "/": f"{below}/{name}",
            "\\": f"{below}\\{name}",
            "absolute": str((folder / below / name).absolute()),
            "bare": name,
            "url": f"https://example.com/{name}",
            "stem": f"{below}/{k}",
            "./": f"./{below}/{name}",
            "upper": f"{below}/{name}".upper(),
        }[style]
        rows.append(
            [
                said if rng.random() < 0.97 else rng.choice(("", "gone.png", "..", "/", "x" * 5000, "a\0b")),
                rng.choice(names),
            ]
        )
    heading = rng.choice(
        (["image", "label"], ["path", "class"], ["file_name", "label"], ["filename", "species"], ["a", "b"])
    )
    if rng.random() < 0.3:
        heading, rows = [*heading, "width"], [[*row, str(rng.randrange(99))] for row in rows]
    with (folder / "images.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=rng.choice(",,,;")).writerows([heading, *rows])
    options = _image_options(rng)
    options.pop("label", None)
    if rng.random() < 0.3:
        options["root"] = f"data/{below}"
    return Written("csv:data/images.csv", f"{style} {below}: {', '.join(sorted(odd))}"[:600], options)


NAMES = (("features", "labels"),) * 20 + (("X", "y"), ("arr_0", "arr_1"), ("data", "target"), ("x_train", "y_train"))
FEATURE_TYPES = (
    *("float32",) * 5,
    *(
        "float64",
        "float16",
        "int8",
        "uint8",
        "int64",
        "bool",
        "complex64",
        "object",
        "U5",
        "S5",
        ">f4",
        "M8[s]",
        "longdouble",
    ),
)
SHAPES = ((5,),) * 20 + ((1,), (0,), (), (8, 8), (8, 8, 3), (3, 8, 8), (300,), (5, 1))


def arrays_file(rng: Random, folder: Path) -> Written:
    """A .npz or .npy file of features and labels, of many types and shapes."""
    numpy_rng = np.random.default_rng(rng.getrandbits(32))
    n, n_classes = rng.choice((0, 1, 10, 40, 40, 40, 40, 40, 40, 100)), rng.choice((1, 2, 2, 3, 3, 4, 6))
    shape, type_ = rng.choice(SHAPES), rng.choice(FEATURE_TYPES) if rng.random() < 0.4 else "float32"
    feature_N = (10 * numpy_rng.normal(size=(n, *shape))).astype(object if type_ == "object" else type_)
    if feature_N.dtype.kind == "f" and feature_N.size and rng.random() < 0.1:
        feature_N.flat[0] = rng.choice((np.nan, np.inf, np.finfo(feature_N.dtype).max))
    label_N = numpy_rng.permutation(np.arange(n) % n_classes)
    style = rng.choice(list(LABELS)) if rng.random() < 0.4 else "whole"
    labels = LABELS[style](label_N, n_classes)
    first, second = rng.choice(NAMES)
    arrays: dict[str, Any] = {first: feature_N, second: labels}
    if rng.random() < 0.2:
        k = rng.randrange(n + 1)
        arrays = {f"train_{name}": value for name, value in arrays.items()}
        arrays |= {f"test_{first}": feature_N[:k], f"test_{second}": labels[:k] if labels.ndim else labels}
    if rng.random() < 0.15:
        arrays["classes"] = np.array([f"class {c}" for c in range(n_classes + rng.choice((0, 0, 0, 1, -1)))])
    if rng.random() < 0.1:
        arrays[rng.choice(("more", "labels", "features"))] = np.arange(rng.choice((0, n, 3)))
    name = rng.choice(("data.npz",) * 8 + ("data.npy", "data", "größe.npz", "data.NPZ"))
    stream = io.BytesIO()
    match rng.choice(("save",) * 12 + ("compressed", "one", "zip", "records")):
        case "save":
            np.savez(stream, **arrays)
        case "compressed":
            np.savez_compressed(stream, **arrays)
        case "one":
            np.save(stream, feature_N)
        case "zip":
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr(rng.choice(("features.txt", "a/b.npy", "features.npy")), rng.randbytes(50))
        case "records":
            np.savez(stream, features=np.zeros(n, [("a", "f4"), ("b", "i4")]), labels=labels)
    content = stream.getvalue()
    if rng.random() < 0.05:
        content = rng.choice((b"", content[: len(content) // 2], bytes(200), b"MATLAB 5.0 MAT-file", b"\x80\x04\x95N."))
    (folder / name).write_bytes(content)
    options: dict[str, Any] = {"skip_broken": True} if rng.random() < 0.2 else {}
    if rng.random() < 0.2:
        options["skip_unknown"] = True
    known = content == stream.getvalue() and set(arrays) == {"features", "labels"} and style in ("whole", "texts")
    known = known and name.endswith(".npz") and len(arrays) == 2
    said = f"{name}: {type_} {feature_N.shape}, {style} {labels.dtype} {labels.shape}, {', '.join(arrays)}"
    return Written(f"features:data/{name}", said, options, list(map(str, labels.tolist())) if known else None)


# Labels of so many classes.
LABELS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "whole": lambda label_N, c: label_N,
    "texts": lambda label_N, c: np.array([f"c{k}" for k in label_N], "U9"),
    "bytes": lambda label_N, c: np.array([f"c{k}".encode() for k in label_N], "S9"),
    "column": lambda label_N, c: label_N[:, None],
    "row": lambda label_N, c: label_N[None],
    "one-hot": lambda label_N, c: np.eye(c)[label_N],
    "whole floats": lambda label_N, c: label_N.astype(np.float64),
    "quantities": lambda label_N, c: label_N + 0.5,
    "not numbers": lambda label_N, c: np.where(label_N == 0, np.nan, label_N),
    "objects": lambda label_N, c: np.array([f"c{k}" for k in label_N], object),
    "bools": lambda label_N, c: label_N > 0,
    "bytes of 8 bits": lambda label_N, c: label_N.astype(np.uint8),
    "negative": lambda label_N, c: label_N - 1,
    "huge": lambda label_N, c: label_N.astype(np.uint64) * 2**62,
    "complex": lambda label_N, c: label_N.astype(np.complex64),
    "dates": lambda label_N, c: label_N.astype("M8[D]"),
    "too few": lambda label_N, c: label_N[1:],
    "one": lambda label_N, c: np.array(1),
    "odd texts": lambda label_N, c: np.array([f"c{k}\n\x1b" for k in label_N], "U9"),
}
