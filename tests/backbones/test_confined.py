"""A base is rebuilt of what its run holds: nothing is fetched, and nothing is larger than its weights."""

import resource
import socket
from typing import Any

import pytest
import torch

from coterie.backbones.base import NetworkForm, rebuild_base
from coterie.backbones.confined import confined, without_places
from coterie.backbones.head import Head
from coterie.config import FitSettings
from coterie.errors import CoterieError
from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, Preprocessing, Scale
from helpers import image_form

WEIGHTS_BYTES = 10_000
VIT = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "image_size": 12,
    "patch_size": 6,
    "num_channels": 1,
    "id2label": {"0": "a", "1": "b"},
}
IMAGES = image_form(1, side=12)
HEAD = Head("network.classifier", 8, 2)
WRAPPER = {"model_type": "timm_wrapper", "num_labels": 2}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Attempts to leave the machine, none of which gets there."""
    seen: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        seen.append(address)
        raise OSError("the test lets nothing out")

    def look_up(*arguments: Any, **_: Any) -> Any:
        seen.append(arguments)
        raise OSError("the test lets nothing out")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return seen


def rebuild(name: str, form: NetworkForm, preprocessing: Preprocessing = IMAGES, head: Head = HEAD) -> torch.nn.Module:
    settings = FitSettings.from_values({"backbone": name})
    return rebuild_base(settings, form, head, 2, preprocessing, None, None, WEIGHTS_BYTES)[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**VIT, "attn_implementation": "kernels-community/flash-attn"}, "attn_implementation = 'kernels-community/"),
        ({**VIT, "_attn_implementation": "kernels-community/flash-attn"}, "_attn_implementation = 'kernels-community/"),
        ({**VIT, "attn_implementation": "flash_attention_2"}, "attn_implementation = 'flash_attention_2'"),
        ({**VIT, "vision_config": {"attn_implementation": "a/b"}}, "vision_config.attn_implementation = 'a/b'"),
        ({**WRAPPER, "architecture": "hf-hub:timm/resnet18.a1_in1k"}, "architecture = 'hf-hub:timm/resnet18.a1_in1k'"),
        ({**WRAPPER, "architecture": "hf_hub:timm/resnet18.a1_in1k"}, "architecture = 'hf_hub:timm/resnet18.a1_in1k'"),
        ({**WRAPPER, "architecture": "local-dir:/etc"}, "architecture = 'local-dir:/etc'"),
        ({**WRAPPER, "architecture": "resnet18", "model_args": {"pretrained": True}}, "model_args.pretrained = True"),
        (
            {**WRAPPER, "architecture": "resnet18", "model_args": {"checkpoint_path": "/etc/passwd"}},
            "model_args.checkpoint_path = '/etc/passwd'",
        ),
        ({**VIT, "backbone": "microsoft/resnet-50"}, "backbone = 'microsoft/resnet-50'"),
        ({"model_type": "no-such-model"}, "transformers cannot build this image classifier"),
        ({}, "transformers cannot build this image classifier"),
    ],
)
def test_what_a_configuration_would_fetch_is_named_and_refused(
    config: dict[str, Any], message: str, calls: list[Any]
) -> None:
    pytest.importorskip("transformers", reason="needs the extra `transformers`")
    with pytest.raises(CoterieError, match=message):
        rebuild("transformers:some/where", NetworkForm("logits", transformers=config))
    assert not calls


def test_places_that_a_configuration_names_are_no_part_of_it(calls: list[Any]) -> None:
    pytest.importorskip("transformers", reason="needs the extra `transformers`")
    places = {"_name_or_path": "some/where", "auto_map": {"AutoModelForImageClassification": "some/where--code.Evil"}}
    assert without_places({"a": [{**places, "b": 1}], **places}) == {"a": [{"b": 1}]}
    assert rebuild("transformers:some/where", NetworkForm("logits", transformers={**VIT, **places}))
    assert not calls


@pytest.mark.parametrize(
    "name",
    ["transformers:some/where", "timm:hf-hub:some/where", "timm:hf_hub:some/where", "timm:local-dir:/etc", "timm:a/b"],
)
def test_a_base_that_is_elsewhere_is_named_and_not_fetched(name: str, calls: list[Any]) -> None:
    with pytest.raises(CoterieError, match=name.partition(":")[2]):
        rebuild(name, NetworkForm())
    assert not calls


def test_whatever_reaches_out_is_stopped_before_it_does(calls: list[Any]) -> None:
    with socket.socket() as free, pytest.raises(OSError, match="the test lets nothing out"):
        free.connect(("127.0.0.1", 9))
    assert calls.pop()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_library_that_fetches_something_is_stopped_and_the_host_named(name: str) -> None:
    with (
        pytest.raises(CoterieError, match=f"would fetch something from {name}, and never leaves the machine"),
        confined(WEIGHTS_BYTES),
    ):
        socket.create_connection((name, 9), timeout=1)
    # Afterwards, others may reach out as before: nobody listens there.
    with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)


FEATURES = FeaturePreprocessing(Scale((0.0,) * 4, (1.0,) * 4))


@pytest.mark.parametrize(
    ("name", "config", "preprocessing"),
    [
        ("mlp-1000000000", None, FEATURES),
        ("mlp-" + 30 * "9", None, FEATURES),
        ("convnet-1000000", None, IMAGES),
        ("convnet-" + 30 * "4", None, IMAGES),
        ("wrn-600000004-1", None, IMAGES),
        ("wrn-10-100000000", None, IMAGES),
        ("transformers:x", {**VIT, "hidden_size": 10**9}, IMAGES),
        ("transformers:x", {**VIT, "num_hidden_layers": 10**9}, IMAGES),
        ("transformers:x", {**VIT, "image_size": 10**9}, IMAGES),
        ("transformers:x", {**VIT, "intermediate_size": 10**19}, IMAGES),
    ],
)
def test_a_base_that_is_larger_than_its_weights_is_not_made(
    name: str, config: dict[str, Any] | None, preprocessing: ImagePreprocessing | FeaturePreprocessing
) -> None:
    if config:
        pytest.importorskip("transformers", reason="needs the extra `transformers`")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CoterieError, match=r"would be far larger|cannot be rebuilt|cannot build"):
        rebuild(name, NetworkForm(transformers=config), preprocessing, Head("head", 4, 2))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # in KiB: a GiB


@pytest.mark.parametrize(
    "head",
    [
        Head("head", 10**9, 2),
        Head("head", 8, 10**9),
        Head("hidden", 8, 2),
        Head("", 8, 2),
        Head("nowhere.at.all", 8, 2),
        Head("head", 8, 2, more=("hidden",)),
        Head("forward", 8, 2),
    ],
)
def test_a_head_that_the_base_has_not_is_named(head: Head) -> None:
    with pytest.raises(CoterieError, match=r"has its head at|has a head of"):
        rebuild("mlp-8", NetworkForm(), FEATURES, head)
    assert rebuild("mlp-8", NetworkForm(), FEATURES, Head("head", 8, 2))
