import pytest
import torch

from coterie.config import HardwareSettings
from coterie.errors import SettingsError
from coterie.inputs import (
    FeaturePreprocessing,
    ImagePreprocessing,
    NGramPreprocessing,
    Preprocessing,
    Scale,
    SentencePreprocessing,
)
from coterie.training.device import make_inference
from coterie.training.fabric import make_fabric


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_inference_computes_as_lightnings_fabric_does(precision: str) -> None:
    settings = HardwareSettings(precision=precision)
    inference, fabric = make_inference(settings), make_fabric(settings)
    assert inference.device == fabric.device
    given = torch.randn(3, 3, device=inference.device)
    found = []
    for computing in (inference, fabric):
        with computing.autocast():
            found.append(given @ given)
    assert found[0].dtype == found[1].dtype
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("inputs", "auto"),
    [
        (ImagePreprocessing(4, 4, 1, (0.0,), (1.0,)), True),
        (NGramPreprocessing(64, 8), True),
        (FeaturePreprocessing(Scale((0.0,), (1.0,))), False),
        (SentencePreprocessing("minilm", Scale((0.0,), (1.0,))), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_auto_keeps_numbers_of_the_users_own_scale(
    inputs: Preprocessing, auto: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie.training.device._computes_in_bf16", lambda _: True)
    for precision, in_bf16 in (("auto", auto), ("bf16", True), ("fp32", False)):
        settings = HardwareSettings(accelerator="cpu", precision=precision)
        assert make_inference(settings, inputs).bf16 == in_bf16
        with make_fabric(settings, inputs).autocast():
            assert torch.is_autocast_enabled("cpu") == in_bf16


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert make_inference(HardwareSettings()).device.type == expected


def test_an_accelerator_that_is_not_there_is_named_with_those_that_are() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    with pytest.raises(SettingsError, match="'mps': not on this machine; here: cpu"):
        make_inference(HardwareSettings(accelerator="mps"))
