import torch

from coterie.backbones import ConvNet


def test_convnet_takes_images_of_any_size() -> None:
    assert ConvNet(8, 3, 1)(torch.randn(2, 1, 8, 50)).shape == (2, 3)
