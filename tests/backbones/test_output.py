"""Logits among what a network returns."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from coterie.backbones import LogitsOf, find_head, logit_parts
from coterie.errors import BackboneError
from networks import AuxInTraining, Outputs, Structured

C = 5

IMAGES = torch.randn((3, 1, 12, 12), generator=torch.Generator().manual_seed(0))


@dataclass
class Answer:
    """As some libraries wrap what their models return."""

    scores: torch.Tensor


@pytest.mark.parametrize(
    ("wrap", "part"),
    [
        (lambda main, side, _: {"logits": main, "aux": side}, "logits"),
        (lambda main, side, _: Outputs(main, side), "logits"),
        (lambda main, _, features: (main, features), 0),
        (lambda main, _, features: {"features": features, "scores": main}, "scores"),
        (lambda main, *_: Answer(main), "scores"),
        (lambda main, *_: main, None),
    ],
)
def test_logits_are_found_among_what_a_network_returns(wrap, part) -> None:
    network = Structured(C, wrap)
    assert logit_parts(network, C, IMAGES) == [part]
    if part is not None:
        whole = LogitsOf(network, part)
        assert whole(IMAGES).shape == (3, C)
        assert find_head(whole, C, IMAGES).path == "network.head"


def test_two_parts_that_may_be_logits_are_both_named() -> None:
    network = Structured(C, lambda main, side, features: (features, main, side))
    assert logit_parts(network, C, IMAGES) == [1, 2]


def test_an_output_without_logits_is_named_with_its_shapes() -> None:
    network = Structured(C, lambda main, side, features: {"a": main, "b": [side]})
    with pytest.raises(BackboneError, match=r"returns a dict .*9 classes.*a: a tensor of shape \(3, 5\); b: a list"):
        logit_parts(network, 9, IMAGES)


def test_an_auxiliary_head_that_shows_in_training_only_is_seen_and_harmless() -> None:
    network = AuxInTraining(C)
    norm = nn.BatchNorm1d(6)
    network.trunk.append(norm)
    before = norm.running_mean.clone()
    assert logit_parts(network, C, IMAGES) == ["logits"]
    assert torch.equal(norm.running_mean, before)
    whole = LogitsOf(network, "logits")
    assert whole.train()(IMAGES).shape == whole.eval()(IMAGES).shape == (3, C)
