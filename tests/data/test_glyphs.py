from __future__ import annotations

import time
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from coterie import data
from coterie.config import DataSettings
from coterie.data import glyphs
from coterie.data.splits import Splits
from coterie.inputs import MemorySamples


def load(seed: int = 0, **settings: object) -> Splits:
    return data.load(DataSettings(**{"train_per_class": 4, **settings}), seed)


def pixels(splits: Splits, name: str) -> torch.Tensor:
    images = getattr(splits, name).samples
    assert isinstance(images, MemorySamples)
    return images.values_N


def test_about_two_hundred_characters_in_small_grey_pictures_and_says_they_are_generated() -> None:
    splits = load()
    assert 190 <= len(splits.labels) <= 230
    assert set("eéèêëωЖ7€") <= set(splits.labels.names)
    assert splits.train.samples.shape == (32, 32, 1)
    assert "generated" in splits.about
    assert not splits.flip
    assert len(splits.train) == 4 * len(splits.labels)
    assert len(splits.validation) == len(splits.test) == len(splits.labels)


def test_by_default_about_24_000_training_images_in_a_few_seconds() -> None:
    n_train = glyphs.TRAIN_PER_CLASS * len(glyphs.alphabet().characters)
    assert 22_000 <= n_train <= 26_000
    started = time.process_time()
    splits = load(train_per_class=12)
    seconds_per_image = (time.process_time() - started) / sum(map(len, (splits.train, splits.validation, splits.test)))
    assert 1.5 * n_train * seconds_per_image < 60  # about 3 on an idle core; tests share theirs


def test_held_out_splits_are_a_quarter_of_train() -> None:
    splits = load(train_per_class=9)
    assert len(splits.validation) == len(splits.test) == 2 * len(splits.labels)


def test_the_seed_alone_decides_the_pixels() -> None:
    torch.manual_seed(1)
    first = load(seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again, other = load(seed=5), load(seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("train", "validation", "test"):
        assert torch.equal(pixels(first, name), pixels(again, name))
        assert not torch.equal(pixels(first, name), pixels(other, name))


def test_splits_share_no_picture() -> None:
    splits = load()
    pictures = [
        picture.tobytes() for name in ("train", "validation", "test") for picture in pixels(splits, name).numpy()
    ]
    assert len(set(pictures)) == len(pictures)


def test_pictures_hold_ink_within_their_borders() -> None:
    splits = load()
    ink_NHW = pixels(splits, "train")[..., 0].float()
    centre = ink_NHW[:, 8:24, 8:24].mean((1, 2))
    edge = torch.cat([ink_NHW[:, :2].flatten(1), ink_NHW[:, -2:].flatten(1)], 1).mean(1)
    assert (centre > edge).float().mean() > 0.95


@pytest.mark.parametrize("twins", ["AΑА", "oοо", "XΧХ", "PΡР", "MΜМ", "cс"])
def test_of_characters_that_look_the_same_the_first_is_kept(twins: str) -> None:
    letters = glyphs.alphabet()
    assert twins[0] in letters.characters
    assert not set(twins[1:]) & set(letters.characters)
    assert set(twins[1:]) <= set(letters.left_out)


def test_every_character_left_out_is_drawn_like_a_kept_one_by_another_renderer() -> None:
    """Pillow's rasteriser as the reference, in the face that all candidates have."""
    letters = glyphs.alphabet()
    path = next(iter(glyphs._font_files()))

    def draw(character: str) -> np.ndarray:
        image = Image.new("L", (64, 64))
        ImageDraw.Draw(image).text((8, 8), character, fill=255, font=ImageFont.truetype(str(path), 40))
        return np.asarray(image, float) / 255

    kept = np.stack([draw(c) for c in letters.characters])
    for character in letters.left_out:
        assert np.abs(kept - draw(character)).mean((1, 2)).min() < 0.005, unicodedata.name(character)


def test_accents_tell_characters_apart() -> None:
    letters = glyphs.alphabet()
    candidates = [c for c in glyphs.CANDIDATES if unicodedata.decomposition(c)]
    assert candidates
    assert not set(candidates) & set(letters.left_out)


def test_only_faces_that_hold_a_character_draw_it() -> None:
    letters = glyphs.alphabet()
    masks = letters.masks_MHW.reshape(len(letters.characters), letters.n_faces, -1)
    has_ink = (masks.amax(2) > 0).numpy()
    for c, faces in enumerate(letters.faces_C):
        assert np.flatnonzero(has_ink[c]).tolist() == list(faces)


def test_mask_borders_are_empty() -> None:
    """No character is cut off at the largest size."""
    masks = glyphs.alphabet().masks_MHW
    for border in (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]):
        assert border.max() == 0


def test_image_size_is_honoured() -> None:
    assert load(image_size=16).train.samples.shape == (16, 16, 1)


def test_held_out_splits_have_at_least_one_image_per_class() -> None:
    splits = load(train_per_class=1)
    assert len(splits.validation) == len(splits.test) == len(splits.labels)


def test_blur_keeps_ink_and_matches_a_plain_convolution() -> None:
    image = torch.zeros(1, 21, 21)
    image[0, 10, 10] = 1
    blurred = glyphs._blur(image, torch.tensor([0.8]))
    offsets = np.arange(-3, 4)
    weights = np.exp(-0.5 * (offsets / 0.8) ** 2)
    weights /= weights.sum()
    np.testing.assert_allclose(blurred[0, 7:14, 7:14].numpy(), np.outer(weights, weights), atol=1e-6)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)


def test_warp_without_a_pose_cuts_out_the_middle_of_the_canvas() -> None:
    masks = torch.rand(2, glyphs.CANVAS, glyphs.CANVAS)
    zero = torch.zeros(2)
    middle = (glyphs.CANVAS - glyphs.SIDE) // 2
    warped = glyphs._warp(masks, zero, zero, zero + 1, torch.zeros(2, 2))
    expected = masks[:, middle : middle + glyphs.SIDE, middle : middle + glyphs.SIDE]
    torch.testing.assert_close(warped, expected, atol=1e-4, rtol=0)
