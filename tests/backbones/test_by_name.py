import pytest
import torch

from coterie.backbones import build, find_head
from coterie.errors import BackboneError
from coterie.inputs import (
    FeaturePreprocessing,
    NGramPreprocessing,
    Preprocessing,
    Scale,
    SentencePreprocessing,
    TablePreprocessing,
)
from helpers import image_form


@pytest.mark.parametrize("name", ["convnet-8", "wrn-10-1", "timm:resnet10t"])
def test_a_built_network_runs_has_a_head_and_comes_from_its_seed(name: str) -> None:
    state = torch.get_rng_state()
    network, same, other = (build(name, 5, image_form(1), seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    head = find_head(network, 5, torch.randn(2, 1, 32, 32))
    assert head.out_features == 5
    assert torch.equal(head.of(network).weight, head.of(same).weight)
    assert not torch.equal(head.of(network).weight, head.of(other).weight)


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


NUMBERS = Scale((0.0, 1.0, 2.0), (1.0, 1.0, 2.0))

TABLE = TablePreprocessing(("a",), Scale((0.0,), (1.0,)), ("b", "c"), (("x", "y"), ()))


@pytest.mark.parametrize(
    ("name", "preprocessing"),
    [
        ("linear", FeaturePreprocessing(NUMBERS)),
        ("mlp-8", FeaturePreprocessing(NUMBERS)),
        ("mlp-8", SentencePreprocessing("minilm", NUMBERS)),
        ("ngram-8", NGramPreprocessing(64, 16)),
        ("table-mlp-8", TABLE),
    ],
)
def test_small_networks_run_have_a_head_and_come_from_their_seed(name: str, preprocessing: Preprocessing) -> None:
    network, same = (build(name, 5, preprocessing, seed=3) for _ in range(2))
    head = find_head(network, 5, preprocessing.example())
    assert head.path == "head"
    assert torch.equal(head.of(network).weight, head.of(same).weight)
    assert not torch.equal(head.of(network).weight, head.of(build(name, 5, preprocessing, seed=4)).weight)


@pytest.mark.parametrize(
    ("name", "preprocessing", "message"),
    [
        (
            "convnet-64",
            NGramPreprocessing(64, 16),
            "'convnet-64' is not one for n-grams of texts; allowed: ngram",
        ),
        ("ngram-8", FeaturePreprocessing(NUMBERS), "not one for features; allowed: linear, mlp-WIDTH"),
        ("mlp-8", TABLE, "not one for rows of tables; allowed: table-mlp-WIDTH"),
        ("linear", NGramPreprocessing(64, 16), "not one for n-grams"),
        ("mlp-0", FeaturePreprocessing(NUMBERS), "mlp-0: the width must be at least 1"),
        ("ngram-0", NGramPreprocessing(64, 16), "ngram-0: the width must be at least 1"),
    ],
)
def test_a_network_of_another_modality_is_refused(name: str, preprocessing: Preprocessing, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        build(name, 5, preprocessing, 0)
