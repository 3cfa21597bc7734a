import numpy as np
import torch

from coterie.backbones import build, find_head
from coterie.backbones.specialist import make_specialist
from helpers import image_form


def test_before_training_a_specialist_is_the_base_among_its_classes() -> None:
    base = build("convnet-8", 6, image_form(1), seed=0).eval()
    head = find_head(base, 6, torch.randn(2, 1, 16, 16))
    specialist = make_specialist(base, head, np.array([1, 4, 5]))
    x = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(specialist(x), base(x)[:, [1, 4, 5]])


def test_training_a_specialist_leaves_the_base_alone() -> None:
    base = build("convnet-8", 6, image_form(1), seed=0)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    specialist = make_specialist(base, find_head(base, 6, torch.randn(2, 1, 16, 16)), np.array([0, 2]))
    for parameter in specialist.parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in base.state_dict().items())
