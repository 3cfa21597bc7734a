"""Heads are found in networks of every kind, and what is none is refused."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from coterie.backbones import Head, find_head, logit_parts
from coterie.errors import BackboneError
from networks import Net, Proxies

C = 5

IMAGES = torch.randn((3, 1, 12, 12), generator=torch.Generator().manual_seed(0))


def test_finding_a_head_leaves_the_network_as_it_was() -> None:
    network = Net(nn.Sequential(nn.Dropout(0.5), nn.Linear(6, C)), nn.Identity()).train()
    network.trunk.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    find_head(network, C, IMAGES)
    assert network.training
    assert not network.trunk.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_head_that_starts_at_zero_is_found() -> None:
    network = Net(nn.Linear(6, C))
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    assert find_head(network, C, IMAGES).path == "head"


def test_a_head_by_name_must_be_one() -> None:
    network = Net(nn.Linear(6, C))
    assert find_head(network, C, IMAGES, "head").path == "head"
    with pytest.raises(BackboneError, match=r"has no layer 'fc'; its last layers of 5 outputs: head"):
        find_head(network, C, IMAGES, "fc")
    with pytest.raises(BackboneError, match=r"does not have its head at trunk.1: .*head \(Linear"):
        find_head(network, C, IMAGES, "trunk.1")


def test_finding_a_head_draws_no_global_random_numbers() -> None:
    network = Proxies(C)
    state = torch.get_rng_state()
    find_head(network, C, IMAGES)
    logit_parts(network, C, IMAGES)
    assert torch.equal(torch.get_rng_state(), state)


# One model of each architecture family of torchvision, with the path of its last linear layer.
TORCHVISION = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "efficientnet_v2_s": "classifier.1",
    "googlenet": "fc",
    "inception_v3": "fc",
    "maxvit_t": "classifier.5",
    "mnasnet0_5": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "regnet_y_400mf": "fc",
    "resnet18": "fc",
    "resnext50_32x4d": "fc",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_1": "classifier.1",
    "swin_t": "head",
    "swin_v2_t": "head",
    "vgg11": "classifier.6",
    "vit_b_32": "heads.head",
    "wide_resnet50_2": "fc",
}

TIMM = [
    "resnet10t",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "regnetx_002",
    "deit_tiny_patch16_224",
    "mixer_s32_224",
    "tinynet_e",
    "swin_tiny_patch4_window7_224",
    "densenet121",
    "resmlp_12_224",
    "mobilevit_xxs",
    "ghostnet_050",
]


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_head_of_every_torchvision_family_is_found(name: str) -> None:
    options = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    network = torchvision.models.get_model(name, weights=None, num_classes=7, **options)
    size = 299 if name == "inception_v3" else 224
    head = find_head(network, 7, torch.randn(2, 3, size, size))
    assert head.path == TORCHVISION[name]
    assert head.of(network).out_features == 7
    assert network.training


@pytest.mark.parametrize("name", TIMM)
def test_the_head_of_timm_families_is_timms_classifier(name: str) -> None:
    network = timm.create_model(name, pretrained=False, num_classes=5)
    head = find_head(network, 5, torch.randn(2, 3, 224, 224))
    classifier = network.get_classifier()
    assert network.get_submodule(head.path) is classifier


def test_two_heads_that_are_averaged_are_cut_together() -> None:
    network = timm.create_model("levit_128s", pretrained=False, num_classes=5)
    head = find_head(network, 5, torch.randn(2, 3, 224, 224))
    assert (head.path, *head.more) == ("head.linear", "head_dist.linear")


class _Net(nn.Module):
    def __init__(self, *after: nn.Module, out: int = 4) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6), nn.ReLU())
        self.last = nn.Linear(6, out)
        self.after = nn.Sequential(*after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.last(self.trunk(x)))


def test_of_several_linear_layers_the_last_operation_is_the_head() -> None:
    assert find_head(_Net(), 4, torch.randn(2, 3, 8, 8)) == Head("last", 6, 4)


def test_dropout_after_the_head_does_nothing_in_use() -> None:
    assert find_head(_Net(nn.Dropout(0.5)), 4, torch.randn(2, 3, 8, 8)).path == "last"


@pytest.mark.parametrize("after", [nn.LayerNorm(4), nn.BatchNorm1d(4), nn.Linear(4, 4)])
def test_a_linear_layer_that_is_not_last_is_no_head(after: nn.Module) -> None:
    network = _Net(after)
    if isinstance(after, nn.Linear):
        assert find_head(network, 4, torch.randn(2, 3, 8, 8)).path == "after.0"
    else:
        with pytest.raises(BackboneError, match=r"does not end in a linear layer.*last \(Linear"):
            find_head(network, 4, torch.randn(2, 3, 8, 8))


def test_a_function_of_each_logit_by_itself_may_come_after_the_head() -> None:
    assert find_head(_Net(nn.ReLU()), 4, torch.randn(2, 3, 8, 8)).path == "last"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (nn.Softmax(1), r"gives probabilities, not logits.*after\.0 \(Softmax"),
        (nn.LogSoftmax(1), r"gives log-probabilities, not logits.*after\.0 \(LogSoftmax"),
        (nn.Sigmoid(), r"gives probabilities, not logits.*after\.0 \(Sigmoid"),
    ],
)
def test_probabilities_are_refused_naming_the_last_layer(after: nn.Module, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        find_head(_Net(after), 4, torch.randn(2, 3, 8, 8))


def test_a_head_of_another_width_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"gives 4 classes.*the data has 10 classes, so \(2, 10\)"):
        find_head(_Net(), 10, torch.randn(2, 3, 8, 8))


def test_a_network_that_cannot_run_on_the_images_is_refused() -> None:
    with pytest.raises(BackboneError, match="cannot run on images of 9 x 9 pixels with 3 channel"):
        find_head(_Net(), 4, torch.randn(2, 3, 9, 9))
