"""What files that are no images are, by their first bytes and by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

# How many first bytes tell.
HEAD = 512
# What people find among their images, and what can be done about it.
KINDS = {
    "HEIC photograph": ("convert it to JPEG", (".heic", ".heif", ".hif")),
    "AVIF image": ("convert it to JPEG: this Pillow does not read it", (".avif", ".avifs")),
    "raw photograph": ("convert it to JPEG", (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf")),
    "SVG drawing": ("draw it as PNG", (".svg", ".svgz")),
    "PDF document": ("save its pages as images", (".pdf",)),
    "video": (
        "save its frames as images",
        (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"),
    ),
    "sound": ("", (".wav", ".mp3", ".flac", ".ogg", ".m4a")),
    "Photoshop file": ("save it as PNG", (".psd", ".psb")),
    "PostScript": ("draw it as PNG", (".eps", ".ps", ".ai")),
    "DICOM file": ("save it as PNG or TIFF", (".dcm", ".dicom")),
    "archive": ("unpack it", (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z", ".xz", ".bz2")),
    "web page": ("the download failed", (".html", ".htm")),
    "pointer of Git LFS": ("fetch it: git lfs pull", ()),
}
# Where the first bytes of a file hold what; in order.
SIGNS = (
    (0, b"%PDF", "PDF document"),
    (0, b"%!PS", "PostScript"),
    (0, b"8BPS", "Photoshop file"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (8, b"AVI ", "video"),
    (8, b"WAVE", "sound"),
    (0, b"ID3", "sound"),
    (0, b"OggS", "sound"),
    (0, b"PK\x03\x04", "archive"),
    (0, b"\x1f\x8b", "archive"),
    (0, b"Rar!", "archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (0, b"version https://git-lfs", "pointer of Git LFS"),
    (128, b"DICM", "DICOM file"),
)
# The brand in the first box of files that are built as MPEG-4 is.
BRANDS = {b"avif": "AVIF image", b"avis": "AVIF image"}
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def kind_of_bytes(head: bytes) -> str:
    """What a file is whose first bytes are ``head``; empty if that is not known here.

    >>> kind_of_bytes(b"%PDF-1.7"), kind_of_bytes(bytes(4) + b"ftypheic")
    ('PDF document', 'HEIC photograph')
    """
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "HEIC photograph" if brand in HEIC_BRANDS else BRANDS.get(brand, "video")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")):
        return "web page"
    return next((kind for place, sign, kind in SIGNS if head[place : place + len(sign)] == sign), "")


def kind_of_suffix(suffix: str) -> str:
    """What a file is whose name ends in ``suffix``; empty if that is not known here."""
    return next((kind for kind, (_, suffixes) in KINDS.items() if suffix in suffixes), "")


def explained(kind: str) -> str:
    """A kind, and what can be done about it.

    >>> explained("SVG drawing")
    'SVG drawing (draw it as PNG)'
    """
    advice = KINDS[kind][0]
    return f"{kind} ({advice})" if advice else kind


def counted(kinds: Iterable[str]) -> str:
    """How many files there are of each kind, the commonest first.

    >>> counted(["video", "PDF document", "video"])
    '2 x video (save its frames as images), 1 x PDF document (save its pages as images)'
    """
    count: dict[str, int] = defaultdict(int)
    for kind in kinds:
        count[kind] += 1
    ordered = sorted(count.items(), key=lambda item: -item[1])
    return ", ".join(f"{number:,} x {explained(kind)}" for kind, number in ordered)
