import torch

from coterie.data.flipped import FlippedImages
from coterie.inputs import MemorySamples


def test_left_and_right_are_exchanged_and_twice_is_not_at_all() -> None:
    images = MemorySamples(torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 3, 4, 1))
    rows = torch.tensor([1, 0])
    flipped = FlippedImages(images)
    assert (len(flipped), flipped.shape) == (2, (3, 4, 1))
    assert flipped.read(torch.tensor([0]))[0, 0, :, 0].tolist() == [3, 2, 1, 0]
    assert torch.equal(FlippedImages(flipped).read(rows), images.read(rows))
    assert torch.equal(flipped.take(rows).read(torch.tensor([0])), flipped.read(torch.tensor([1])))
