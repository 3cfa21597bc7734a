"""Networks of a user's, of every kind that has a head: 12 x 12 grey images to logits."""

from collections import namedtuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

Outputs = namedtuple("Outputs", ["logits", "aux"])


def trunk(width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Tanh())


class Net(nn.Module):
    """A trunk, a head, and what comes after it."""

    def __init__(self, head: nn.Module, *after: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk()
        self.head = head
        self.after = nn.Sequential(*after)
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.head(self.trunk(x)))


class CosineLinear(nn.Linear):
    """As metric learning has it: a subclass of a linear layer that is none."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * F.linear(F.normalize(x), F.normalize(self.weight))


class Proxies(nn.Module):
    """The head is a parameter of the network itself, a column a class, with biases beside it."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.proxies = nn.Parameter(torch.randn(6, n_classes))
        self.offset = nn.Parameter(torch.randn(n_classes))
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x) @ self.proxies + self.offset


class TextEmbeddings(nn.Module):
    """As CLIP has it: scaled cosines of features and a buffer of one text embedding a class."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("texts", F.normalize(torch.randn(n_classes, 6)))
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.exp() * F.normalize(self.trunk(x)) @ self.texts.T


class Prototypes(nn.Module):
    """The logits are distances from one prototype a class, with a minus."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.prototypes = nn.Parameter(torch.randn(n_classes, 6))
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.trunk(x), self.prototypes)


class Temperature(nn.Module):
    """All logits divided by one number."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.7))

    def forward(self, logits: Tensor) -> Tensor:
        return logits / self.temperature


class PriorAdjusted(nn.Module):
    """Each logit scaled by a parameter of its class, less a buffer: the logarithm of its frequency."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + torch.rand(n_classes))
        self.register_buffer("log_prior", torch.randn(1, n_classes))

    def forward(self, logits: Tensor) -> Tensor:
        return self.scale * logits - self.log_prior


class TwoHeads(nn.Module):
    """Two heads whose logits are averaged, as in distilled vision transformers."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.head = nn.Linear(6, n_classes)
        self.head_dist = nn.Linear(6, n_classes)
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        features = self.trunk(x)
        return (self.head(features) + self.head_dist(features.square())) / 2


class WeighedHeads(nn.Module):
    """A head of each of three stages, whose logits are added by learned weights, as in EfficientViM."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.heads = nn.ModuleList(nn.Linear(6, n_classes) for _ in range(3))
        self.weights = nn.Parameter(torch.tensor([0.0, 1.0, -1.0]))
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        features, weights = self.trunk(x), self.weights.softmax(0)
        return sum((weights[k] * head(features ** (k + 1)) for k, head in enumerate(self.heads)), torch.zeros(()))


class Tied(nn.Module):
    """The head's weight is the embedding's by which the network looks at its own first guess."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.guess = nn.Linear(6, 1)
        self.embedding = nn.Embedding(n_classes, 6)
        self.head = nn.Linear(6, n_classes, bias=False)
        self.head.weight = self.embedding.weight
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor) -> Tensor:
        features = self.trunk(x)
        guess = (self.guess(features)[:, 0] > 0).long()
        return self.head(features + self.embedding(guess))


class Structured(nn.Module):
    """Logits of a main and an auxiliary head, in any wrapping."""

    def __init__(self, n_classes: int, wrap) -> None:
        super().__init__()
        self.trunk = trunk()
        self.head = nn.Linear(6, n_classes)
        self.side = nn.Linear(6, n_classes)
        self.wrap = wrap
        self(torch.zeros(2, 1, 12, 12))

    def forward(self, x: Tensor):
        features = self.trunk(x)
        return self.wrap(self.head(features), self.side(features), features)


class AuxInTraining(Structured):
    """A plain tensor in use, more in training: as GoogLeNet does."""

    def __init__(self, n_classes: int) -> None:
        super().__init__(n_classes, lambda main, side, _: Outputs(main, side))

    def forward(self, x: Tensor):
        outputs = super().forward(x)
        return outputs if self.training else outputs.logits


def make_8() -> nn.Module:
    """For ``module:function``."""
    torch.manual_seed(0)
    return Net(nn.Linear(6, 8))


def make_nothing() -> str:
    return "network"
