from pathlib import Path

import numpy as np
import pytest
import torch

from coterie.errors import InputError
from coterie.inputs import ImagePreprocessing, MemorySamples


def numbered(n: int, height: int = 6, width: int = 5, channels: int = 3) -> MemorySamples:
    pixels = np.random.default_rng(0).integers(1, 256, size=(n, height, width, channels))
    return MemorySamples(torch.from_numpy(pixels.astype(np.uint8)))


def test_measured_preprocessing_normalises() -> None:
    memory = numbered(50)
    preprocessing = ImagePreprocessing.measure(memory)
    inputs = preprocessing(memory.values_N)
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_a_constant_channel_is_not_divided_by_its_spread() -> None:
    preprocessing = ImagePreprocessing.measure(MemorySamples(torch.full((2, 8, 8, 1), 7, dtype=torch.uint8)))
    assert preprocessing.std == (1.0,)


def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(2, 6, 5), dtype=np.uint8)


FORM = ImagePreprocessing(6, 5, 1, (0.0,), (1.0,))
COLOUR = ImagePreprocessing(6, 5, 3, (0.0,) * 3, (1.0,) * 3)


def test_arrays_of_negative_strides_that_cannot_be_written_are_the_same_images() -> None:
    pixels_NHW = grey()
    backwards = pixels_NHW[::-1, :, ::-1].copy()[::-1, :, ::-1]
    backwards.setflags(write=False)
    for raw in (backwards, [*pixels_NHW], torch.from_numpy(pixels_NHW)):
        np.testing.assert_array_equal(FORM.samples(raw).values_N[..., 0].numpy(), pixels_NHW)
    bgr = np.random.default_rng(0).integers(0, 256, size=(2, 6, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(COLOUR.samples(bgr[..., ::-1]).values_N.numpy(), np.flip(bgr, 3))
    np.testing.assert_array_equal(COLOUR.samples(bgr[1]).values_N.numpy(), bgr[1:])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("a.png", "N at least 1, or PIL images, bytes, paths; got str"),
        ([Path("a.png")], "got list of PosixPath"),
        (None, "got NoneType"),
        ([], "got float64 of shape"),
        (grey().astype(float), "got float64 of shape"),
        (grey().astype(">u2"), "got uint16 of shape"),
        (grey().astype(complex), "got an array of complex128"),
        (grey().astype(object), "got float64 of shape"),
        (np.ma.masked_array(grey()), "a masked array"),
        ([grey()[0], grey()[0, :2]], "no array of numbers"),
        (grey()[:0], "got uint8 of shape"),
    ],
)
def test_what_is_no_array_of_images_is_named(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FORM.samples(raw)
