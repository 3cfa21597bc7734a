import pytest
import timm
import torch
import torchvision
from torch import nn

from coterie.backbones import ConvNet, Head, WideResNet, build, find_head, replace_head
from coterie.errors import BackboneError
from helpers import image_form

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


@pytest.mark.parametrize("bias", [True, False])
def test_a_cut_head_gives_the_logits_of_its_classes(bias: bool) -> None:
    network = _Net()
    network.last = nn.Linear(6, 4, bias=bias)
    x = torch.randn(5, 3, 8, 8)
    before = network(x)
    replace_head(network, find_head(network, 4, torch.randn(2, 3, 8, 8)), torch.tensor([3, 1]))
    torch.testing.assert_close(network(x), before[:, [3, 1]])


@pytest.mark.parametrize(("depth", "widen", "millions"), [(28, 10, 36.5), (16, 4, 2.7), (16, 2, 0.7), (40, 4, 8.9)])
def test_wide_resnets_have_the_papers_number_of_weights(depth: int, widen: int, millions: float) -> None:
    # Table 4 of arXiv 1605.07146, for CIFAR-10.
    network = WideResNet(depth, widen, 10)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == pytest.approx(millions, abs=0.1)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == depth


@pytest.mark.parametrize("name", ["convnet-8", "wrn-10-1", "timm:resnet10t"])
def test_a_built_network_runs_has_a_head_and_comes_from_its_seed(name: str) -> None:
    state = torch.get_rng_state()
    network, same, other = (build(name, 5, image_form(1), seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    head = find_head(network, 5, torch.randn(2, 1, 32, 32))
    assert head.out_features == 5
    assert torch.equal(head.of(network).weight, head.of(same).weight)
    assert not torch.equal(head.of(network).weight, head.of(other).weight)


def test_convnet_takes_images_of_any_size() -> None:
    assert ConvNet(8, 3, 1)(torch.randn(2, 1, 8, 50)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "unknown backbone 'resnet'; allowed for images: convnet-WIDTH"),
        ("convnet-6", "positive multiple of 4"),
        ("wrn-11-2", "6n \\+ 4"),
        ("wrn-16-0", "width at least 1"),
        ("timm:resnet18x", "timm has no model 'resnet18x'"),
    ],
)
def test_an_unknown_backbone_is_named_with_what_is_allowed(name: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        build(name, 5, image_form(3), 0)
