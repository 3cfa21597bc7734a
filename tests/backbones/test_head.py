"""Heads of every kind: cut to some classes, read as rows, and asked what enters them."""

import pytest
import torch
from torch import nn

from coterie.backbones import find_head, head_inputs, replace_head
from coterie.errors import BackboneError
from networks import (
    CosineLinear,
    Net,
    PriorAdjusted,
    Prototypes,
    Proxies,
    Temperature,
    TextEmbeddings,
    Tied,
    TwoHeads,
    WeighedHeads,
)

C = 5

IMAGES = torch.randn((3, 1, 12, 12), generator=torch.Generator().manual_seed(0))


class Adapted(nn.Module):
    """A linear layer with a low-rank adapter, as peft wraps it."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(6, C)
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, C, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + 0.5 * self.up(self.down(x))


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(6, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(x))


class Unsqueeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, None]


def convolution() -> nn.Module:
    return Net(nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, C, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten())


KINDS = {
    "linear": (lambda: Net(nn.Linear(6, C)), ("head",)),
    "no bias": (lambda: Net(nn.Linear(6, C, bias=False)), ("head",)),
    "wrapped": (lambda: Net(Wrapped()), ("head.fc",)),
    "weight norm": (lambda: Net(nn.utils.parametrizations.weight_norm(nn.Linear(6, C))), ("head",)),
    "convolution": (convolution, ("head.1",)),
    "squeezed": (lambda: Net(nn.Linear(6, C), Unsqueeze(), nn.Flatten()), ("head",)),
    "adapted": (lambda: Net(Adapted()), ("head",)),
    "cosine": (lambda: Net(CosineLinear(6, C, bias=False)), ("head.weight",)),
    "parameter": (lambda: Proxies(C), ("proxies", "offset")),
    "averaged": (lambda: TwoHeads(C), ("head", "head_dist")),
    "weighed": (lambda: WeighedHeads(C), ("heads.0", "heads.1", "heads.2")),
    "tied": (lambda: Tied(C), ("head",)),
    "text embeddings": (lambda: TextEmbeddings(C), ("texts",)),
    "prototypes": (lambda: Prototypes(C), ("prototypes",)),
    "temperature": (lambda: Net(nn.Linear(6, C), Temperature()), ("head",)),
    "adjusted": (lambda: Net(nn.Linear(6, C), PriorAdjusted(C)), ("head", "after.0.scale", "after.0.log_prior")),
}


# Heads that are tensors, of which nothing says what enters; and those whose logits are adjusted behind the rows, or
# added by weights.
ROWS_ALONE = {"parameter", "cosine", "text embeddings", "prototypes", "temperature", "adjusted", "weighed"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_found_and_a_cut_one_gives_the_logits_of_its_classes(kind: str) -> None:
    make, paths = KINDS[kind]
    network = make().eval()
    head = find_head(network, C, IMAGES)
    assert (head.path, *head.more) == paths
    before = network(IMAGES)
    replace_head(network, head, torch.tensor([3, 1]))
    torch.testing.assert_close(network(IMAGES), before[:, [3, 1]])
    replace_head(network, find_head(network, 2, IMAGES), torch.tensor([1]))  # a specialist's own head is one again
    torch.testing.assert_close(network(IMAGES), before[:, [1]])


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_a_head_say_how_its_logits_depend_on_the_features(kind: str) -> None:
    """Against autograd: where the logits are inner products, their gradient by the features are the rows."""
    network = KINDS[kind][0]().eval()
    head = find_head(network, C, IMAGES)
    rows_CD = head.of(network).weight.detach()
    own = {
        "text embeddings": "texts",
        "prototypes": "prototypes",
        "temperature": "head.weight",
        "adjusted": "head.weight",
    }
    if kind in own:  # what comes before or after the product is no part of the rows
        expected = network.state_dict()[own[kind]]
    elif kind in ("averaged", "weighed"):
        heads = network.heads if kind == "weighed" else (network.head, network.head_dist)
        expected = torch.cat([layer.weight for layer in heads], dim=1)
    else:
        features = torch.randn(6, requires_grad=True)
        network.trunk = nn.Identity()
        logits = network(features[None])[0] if kind != "tied" else network.head(features)
        expected = torch.stack([torch.autograd.grad(logit, features, retain_graph=True)[0] for logit in logits])
    if kind == "cosine":
        assert head.unit
        expected = torch.nn.functional.normalize(network.head.weight, dim=1)
    torch.testing.assert_close(rows_CD, expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - ROWS_ALONE))
def test_what_enters_a_head_gives_the_logits_by_its_rows(kind: str) -> None:
    network = KINDS[kind][0]().eval()
    head = find_head(network, C, IMAGES)
    with head_inputs(network, head) as features:
        logits = [network(batch) for batch in (IMAGES, IMAGES[:2])]
    assert [len(batch) for batch in features] == [3, 2]
    share = 0.5 if kind == "averaged" else 1  # it gives the mean of two heads, whose rows are those of their sum
    for of_batch, expected in zip(features, logits, strict=True):
        torch.testing.assert_close(share * head.of(network)(of_batch), expected, atol=1e-5, rtol=1e-4)


class OfTokens(nn.Module):
    """The head is asked about each token, and one answer is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x[:, 0])[:, -1]


def test_heads_of_which_nothing_says_what_enters_are_refused() -> None:
    for network, message in ((Proxies(C), "multiplies with proxies itself"), (OfTokens(), "more than one vector of a")):
        head = find_head(network.eval(), C, IMAGES)
        with pytest.raises(BackboneError, match=message), head_inputs(network, head):
            network(IMAGES)


def test_a_tied_head_that_is_cut_leaves_the_embedding_whole() -> None:
    network = Tied(C)
    replace_head(network, find_head(network, C, IMAGES), torch.tensor([0, 4]))
    assert network.embedding.weight.shape == (C, 6)
    assert network.head.weight.shape == (2, 6)


def test_a_real_adapter_of_peft_is_found_and_merged() -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    plain = Net(nn.Linear(6, C))
    network = peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=["head"], init_lora_weights=False)).eval()
    head = find_head(network, C, IMAGES)
    before = network(IMAGES)
    replace_head(network, head, torch.tensor([4, 0, 2]))
    torch.testing.assert_close(network(IMAGES), before[:, [4, 0, 2]])
