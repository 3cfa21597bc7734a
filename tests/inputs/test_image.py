import numpy as np
import torch

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
