"""What builds a network, and what finds its linear head."""

from coterie.backbones.by_name import build
from coterie.backbones.convnet import ConvNet
from coterie.backbones.head import Head, head_inputs, replace_head
from coterie.backbones.head_search import find_head
from coterie.backbones.output import LogitsOf, logit_parts
from coterie.backbones.parts import TrainedPart, cut_points, trained_part
from coterie.backbones.wide_resnet import WideResNet

__all__ = [
    "ConvNet",
    "Head",
    "LogitsOf",
    "TrainedPart",
    "WideResNet",
    "build",
    "cut_points",
    "find_head",
    "head_inputs",
    "logit_parts",
    "replace_head",
    "trained_part",
]
