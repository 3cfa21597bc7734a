"""The embedded data set: small grey pictures of characters, generated on the spot from matplotlib's fonts.

Its families are real: ``e é è ê ë`` differ by a few pixels that blur, noise and a low resolution eat. It
stands in for no photograph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.ft2font import FT2Font, LoadFlags
from numpy.random import SeedSequence
from torch import Tensor
from torch.nn import functional

from coterie.config import DataSettings
from coterie.data.cut import thin
from coterie.data.decode import resize_pixels
from coterie.data.splits import Split, Splits
from coterie.inputs import ImagePreprocessing, MemorySamples
from coterie.labels import LabelSpace

SIDE = 32  # pixels of an image's side
TRAIN_PER_CLASS = 110  # about 24,000 images in all

# Text faces only: matplotlib's other fonts map characters to symbols, pieces of brackets, or placeholders.
FACES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
STYLES = ("", "-Bold", "-Oblique", "-BoldOblique", "-Italic", "-BoldItalic", "Bol", "Italic", "BolIta")

# In this order: of characters that look the same, the first is kept.
CANDIDATES = (
    "0123456789"
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "àáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿßÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝ"
    "αβγδεζηθικλμνξοπρςστυφχψωΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ"
    "абвгдежзийклмнопрстуфхцчшщъыьэюяАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ"
    "!?#$%&@+=<>±÷×£€§¿¡"  # noqa: RUF001 - signs that resemble others are the point
)

CANVAS = 48  # pixels of a mask's side: room for a letter with its accent and descender, at any size used
SIZES = (15, 17, 19)  # pixels per em of the masks; each is scaled by up to SCALE more
SCALE = 0.05
COMPARED_SIZE = 64  # pixels per em at which candidates are compared ...
CELL = 4  # ... cell by cell, of so many pixels' side: about a pixel of the final images
SAME_INK = 0.6  # largest difference of a cell's ink coverage up to which two renderings look the same


@dataclass(frozen=True, eq=False)
class Alphabet:
    """The characters kept, and how each looks.

    ``masks_MHW`` is uint8 ink coverage, M = characters x faces x sizes in that order; ``faces_C`` lists, per
    character, the indices of the faces that hold it. ``left_out`` are the characters that no face tells from
    one that was kept.
    """

    characters: tuple[str, ...]
    left_out: tuple[str, ...]
    faces_C: tuple[tuple[int, ...], ...]
    n_faces: int
    masks_MHW: Tensor

    def mask_index(self, character_N: Tensor, face_N: Tensor, size_N: Tensor) -> Tensor:
        """The position in ``masks_MHW`` of characters in faces at sizes."""
        return (character_N * self.n_faces + face_N) * len(SIZES) + size_N


def load(settings: DataSettings, seed: int) -> Splits:
    """Generate the three splits; the same seed gives the same pixels.

    ``settings.train_per_class`` images per class for training; a quarter of that, at least 1, for each of
    validation and test.
    """
    letters = alphabet()
    n_train = settings.train_per_class or TRAIN_PER_CLASS
    n_held_out = max(1, n_train // 4)
    train, validation, test = (
        _draw_split(letters, n_per_class, split_seed, settings.image_size)
        for n_per_class, split_seed in zip(
            (n_train, n_held_out, n_held_out), SeedSequence(seed).generate_state(3).tolist(), strict=True
        )
    )
    if settings.imbalance is not None:
        train = thin(train, settings.imbalance, np.random.default_rng(seed))
    about = (
        f"glyphs: {len(train):,} train, {len(validation):,} validation and {len(test):,} test pictures of "
        f"{len(letters.characters)} characters, "
        "generated on this machine from the fonts that matplotlib ships (not photographs, no real-world data)"
    )
    return Splits(
        train=train,
        validation=validation,
        test=test,
        labels=LabelSpace(letters.characters),
        preprocessing=ImagePreprocessing.measure(train.samples),
        about=about,
        flip=False,
    )


@cache
def alphabet() -> Alphabet:
    """Render the candidates in all faces, and leave out those that no face tells apart."""
    fonts = [FT2Font(str(path)) for path in _font_files()]
    held_FC = np.array([[font.get_char_index(ord(c)) != 0 for c in CANDIDATES] for font in fonts])
    kept = _distinct(fonts, held_FC)
    characters = tuple(CANDIDATES[k] for k in kept)
    masks = np.zeros((len(characters), len(fonts), len(SIZES), CANVAS, CANVAS), np.uint8)
    for f, font in enumerate(fonts):
        for s, size in enumerate(SIZES):
            for c, character in enumerate(characters):
                if held_FC[f, kept[c]]:
                    masks[c, f, s] = _render(font, character, size, CANVAS)
    return Alphabet(
        characters=characters,
        left_out=tuple(c for c in CANDIDATES if c not in characters),
        faces_C=tuple(tuple(np.flatnonzero(held_FC[:, k]).tolist()) for k in kept),
        n_faces=len(fonts),
        masks_MHW=torch.from_numpy(masks).flatten(0, 2),
    )


def _font_files() -> Iterator[Path]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for face in FACES:
        for style in STYLES:
            path = folder / f"{face}{style}.ttf"
            if path.is_file():
                yield path


def _render(font: FT2Font, character: str, size: int, canvas: int) -> np.ndarray:
    """Ink coverage, uint8 (canvas, canvas): the ink centred across, the baseline at 0.7 of the height."""
    font.set_size(size, 72)
    # Unhinted outlines do not depend on which hinter FreeType was built with.
    font.set_text(character, 0.0, flags=LoadFlags.NO_HINTING)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.asarray(font.get_image())
    height, width = ink.shape
    bottom = canvas * 7 // 10 + int(np.ceil(font.get_descent() / 64))
    top, left = bottom - height, (canvas - width) // 2
    page = np.zeros((canvas, canvas), np.uint8)
    page[top:bottom, left : left + width] = ink
    return page


def _distinct(fonts: list[FT2Font], held_FC: np.ndarray) -> list[int]:
    """Candidates to keep: each differs, in some face that holds both, from every one kept before it."""
    # Pairs (earlier, later) that no face so far tells apart; after the first face few are left.
    pairs_2P = np.stack(np.triu_indices(held_FC.shape[1], k=1))
    compared_P = np.zeros(pairs_2P.shape[1], bool)
    for font, held_C in zip(fonts, held_FC, strict=True):
        cells_CHW = _cells(font, held_C)
        both_P = held_C[pairs_2P].all(0)
        same_P = ~both_P
        same_P[both_P] = _look_the_same(*cells_CHW[pairs_2P[:, both_P]])
        compared_P = (compared_P | both_P)[same_P]
        pairs_2P = pairs_2P[:, same_P]
    twins = {(earlier, later) for earlier, later in pairs_2P[:, compared_P].T.tolist()}
    kept: list[int] = []
    for candidate in np.flatnonzero(held_FC.any(0)).tolist():
        if not any((earlier, candidate) in twins for earlier in kept):
            kept.append(candidate)
    return kept


def _cells(font: FT2Font, held_C: np.ndarray) -> np.ndarray:
    """Every candidate's ink coverage, 0 to 1, in coarse cells; empty where the face lacks it."""
    canvas = COMPARED_SIZE * 3 // 2
    side = canvas // CELL
    cells_CHW = np.zeros((len(held_C), side, side), np.float32)
    for c in np.flatnonzero(held_C):
        page = _render(font, CANDIDATES[c], COMPARED_SIZE, canvas)
        cells_CHW[c] = page.reshape(side, CELL, side, CELL).mean((1, 3)) / 255
    return cells_CHW


def _look_the_same(cells_PHW: np.ndarray, others_PHW: np.ndarray) -> np.ndarray:
    """Whether two renderings agree in every cell, shifted by at most one cell either way; bool of shape (P,).

    The largest difference is taken, not the mean: an accent is a large difference in few cells, and twins
    drawn by different hands differ a little in many.
    """
    same_P = np.zeros(len(cells_PHW), bool)
    for down in (0, -1, 1):
        for right in (0, -1, 1):
            # The margins are empty: nothing but paper is rolled around.
            shifted_PHW = np.roll(others_PHW[~same_P], (down, right), axis=(1, 2))
            difference_P = np.abs(cells_PHW[~same_P] - shifted_PHW).max((1, 2))
            same_P[~same_P] = difference_P <= SAME_INK
    return same_P


def _draw_split(letters: Alphabet, n_per_class: int, seed: int, image_size: int | None) -> Split:
    """``n_per_class`` images of every character, all classes in turn."""
    random = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(len(letters.characters)).repeat(n_per_class)
    # Batches bound the memory of the float intermediates.
    pixels_NHW = torch.cat([_draw(letters, labels_B, random) for labels_B in torch.split(labels_N, 2048)])
    return Split(MemorySamples(resize_pixels(pixels_NHW.unsqueeze(3), image_size)), labels_N)


def _draw(letters: Alphabet, labels_B: Tensor, random: torch.Generator) -> Tensor:
    """One image, uint8 (B, SIDE, SIDE), per label, in a random face, pose, sharpness, contrast and noise."""
    n_images = len(labels_B)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n_images, generator=random)

    face_N = torch.tensor(
        [
            letters.faces_C[label][int(share * len(letters.faces_C[label]))]
            for label, share in zip(labels_B.tolist(), uniform(0, 1).tolist(), strict=True)
        ]
    )
    size_N = torch.randint(len(SIZES), (n_images,), generator=random)
    masks_BHW = letters.masks_MHW[letters.mask_index(labels_B, face_N, size_N)].float() / 255
    ink_BHW = _warp(
        masks_BHW,
        angle_B=uniform(-0.15, 0.15),
        shear_B=uniform(-0.15, 0.15),
        scale_B=uniform(1 - SCALE, 1 + SCALE),
        shift_B2=torch.stack([uniform(-3, 3), uniform(-3, 3)], dim=1),
    )
    ink_BHW = _blur(ink_BHW, sigma_B=uniform(0.5, 1.3))
    paper_B, contrast_B = uniform(0.0, 0.3), uniform(0.4, 0.7)
    noise_BHW = torch.randn(ink_BHW.shape, generator=random) * uniform(0.02, 0.08)[:, None, None]
    grey_BHW = paper_B[:, None, None] + contrast_B[:, None, None] * ink_BHW + noise_BHW
    return (grey_BHW.clamp(0, 1) * 255).round().to(torch.uint8)


def _warp(masks_BHW: Tensor, angle_B: Tensor, shear_B: Tensor, scale_B: Tensor, shift_B2: Tensor) -> Tensor:
    """Rotate (radians), shear, scale and shift (pixels) the canvas about its centre; cut SIDE pixels out."""
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    # Rows of the map from an image's pixel to the mask's, both in units of half a canvas.
    shrink_B = SIDE / CANVAS / scale_B
    theta_B23 = torch.stack(
        [
            torch.stack([cos_B, sin_B + shear_B * cos_B], 1),
            torch.stack([-sin_B, cos_B - shear_B * sin_B], 1),
        ],
        dim=1,
    )
    theta_B23 = torch.cat([theta_B23 * shrink_B[:, None, None], 2 / CANVAS * shift_B2[:, :, None]], dim=2)
    grid = functional.affine_grid(theta_B23, [len(masks_BHW), 1, SIDE, SIDE], align_corners=False)
    warped = functional.grid_sample(masks_BHW.unsqueeze(1), grid, mode="bilinear", align_corners=False)
    return warped.squeeze(1)


def _blur(images_BHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation, in pixels, of its own for every image."""
    radius = 3
    offsets = torch.arange(-radius, radius + 1)
    weights_BK = torch.exp(-0.5 * (offsets / sigma_B[:, None]).square())
    weights_BK = weights_BK / weights_BK.sum(1, keepdim=True)
    side = images_BHW.shape[-1]
    for dim in (1, 2):
        padding = (radius, radius) if dim == 2 else (0, 0, radius, radius)
        padded = functional.pad(images_BHW, padding)
        images_BHW = torch.zeros_like(images_BHW)
        for k in range(2 * radius + 1):
            images_BHW += weights_BK[:, k, None, None] * padded.narrow(dim, k, side)
    return images_BHW
