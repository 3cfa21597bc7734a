"""A base that the user brings: built by a function, from a library, passed in, or taken from a run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import coterie
from coterie.backbones.base import make_base, rebuild_base
from coterie.config import FitSettings
from coterie.data.splits import Split, Splits
from coterie.errors import ArtifactError, BackboneError
from coterie.inputs import MemorySamples
from coterie.labels import LabelSpace
from coterie.pipeline import fit as pipeline
from coterie.pipeline.plan import make_plan
from coterie.pipeline.prepare import prepare
from coterie.run.folder import Run
from coterie.run.names import HEAD_FILE
from coterie.run.reporting import read_reports
from coterie.run.values import read_head
from helpers import image_form
from networks import AuxInTraining, CosineLinear, Net, Outputs, Structured, Tied, TwoHeads, make_8

PREPROCESSING = image_form(1, side=12)

EXAMPLE = PREPROCESSING.example()

LABELS = LabelSpace(tuple(f"class {k}" for k in range(8)))


def changed(settings: FitSettings, **values: object) -> FitSettings:
    return FitSettings.from_values({**settings.to_values(), **values})


def base_of(settings: FitSettings, given: nn.Module | None = None, labels: LabelSpace = LABELS, **values: object):
    return make_base(changed(settings, **values), labels, PREPROCESSING, given)


def trained(network: nn.Module, splits: Splits) -> nn.Module:
    """A little, so that it is better than chance."""
    torch.manual_seed(1)
    inputs = splits.preprocessing(splits.train.samples.read(torch.arange(len(splits.train))))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    network.eval()
    for _ in range(60):
        output = network(inputs)
        logits = output if isinstance(output, torch.Tensor) else output["logits"]
        loss = torch.nn.functional.cross_entropy(logits, splits.train.labels_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@pytest.mark.parametrize(
    "make",
    [
        lambda: Net(nn.Linear(6, 8)),
        lambda: Net(CosineLinear(6, 8, bias=False)),
        lambda: TwoHeads(8),
        lambda: Tied(8),
        lambda: AuxInTraining(8),
        lambda: Structured(8, lambda main, side, _: {"logits": main, "side": side}),
    ],
    ids=["linear", "cosine", "two heads", "tied", "auxiliary", "dictionary"],
)
def test_any_module_passes_in_is_not_trained_and_is_loaded_with_one_of_its_form(
    make, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    torch.manual_seed(0)
    network = make()
    if not isinstance(network, AuxInTraining):
        trained(network, splits)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fitted = coterie.fit(settings, tmp_path / "run", base=network, splits=splits)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    run = Run.open_complete(tmp_path / "run")
    assert run.settings.backbone == f"python:networks.{type(network).__name__}"
    assert run.manifest.seconds["base.safetensors"] == 0
    assert "base" not in run.read_json("history.json")
    assert "the base came trained" in (run.path / "report.html").read_text()
    stored = {name.removeprefix("network."): t for name, t in run.read_tensors("base.safetensors").items()}
    assert stored.keys() == before.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in stored.items())
    loaded = coterie.load(tmp_path / "run", base=make())
    np.testing.assert_array_equal(fitted.predict_proba(splits.test.samples), loaded.predict_proba(splits.test.samples))
    with pytest.raises(ArtifactError, match=r"was passed from Python.*coterie.load\(RUN, base=network\)"):
        coterie.load(tmp_path / "run")
    with pytest.raises(ArtifactError, match=r"another network's weights|its head at|has a head of"):
        coterie.load(tmp_path / "run", base=Net(nn.Linear(6, 8), nn.Linear(8, 8)))


def test_a_base_that_was_passed_in_must_stay_the_same_when_a_run_goes_on(
    tmp_path: Path, settings: FitSettings, splits: Splits, monkeypatch
) -> None:
    network = trained(make_8(), splits)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "choose", stop)
        with pytest.raises(KeyboardInterrupt):
            coterie.fit(settings, tmp_path / "run", base=network, splits=splits)
    with pytest.raises(ArtifactError, match="the base has other weights than when"):
        coterie.fit(settings, tmp_path / "run", base=make_8(), splits=splits)
    coterie.fit(settings, tmp_path / "run", base=network, splits=splits)
    coterie.fit(settings, tmp_path / "run", base=network, splits=splits)  # finished: loaded
    with pytest.raises(ArtifactError, match="settings differ in backbone"):
        coterie.fit(settings, tmp_path / "run", base=TwoHeads(8), splits=splits)


def test_classes_that_are_numbers_may_be_in_the_order_of_sorted_folders(settings: FitSettings) -> None:
    rng = np.random.default_rng(0)
    names = tuple(str(k) for k in range(12))
    label_N = np.arange(240) % 12
    pixels = (20 * label_N[:, None, None, None] + rng.integers(0, 4, (240, 12, 12, 1))).astype(np.uint8)
    split = Split(MemorySamples(torch.from_numpy(pixels)), torch.from_numpy(label_N))
    own = Splits(split, split, split, LabelSpace(names), PREPROCESSING, "numbers")

    class Nearest(nn.Module):
        """Tells the class by the mean of the pixels; row k of its head is of the folder ``sorted(names)[k]``."""

        def __init__(self, order: list[str]) -> None:
            super().__init__()
            pixel_C = torch.tensor([20.0 * int(name) + 1.5 for name in order])
            mean_C = (pixel_C - PREPROCESSING.mean[0]) / PREPROCESSING.std[0]
            self.head = nn.Linear(1, 12)
            with torch.no_grad():
                self.head.weight.copy_(2 * mean_C[:, None])
                self.head.bias.copy_(-mean_C.square())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.mean((1, 2, 3))[:, None])

    ours = changed(settings, partition={"clusters": [2]}, backbone="python:x")
    folders = prepare(ours, splits=own, base=Nearest(sorted(names))).base
    counted = prepare(ours, splits=own, base=Nearest(list(names))).base
    assert folders.form.origin.startswith("outputs in the order of sorted names (0, 1, 10, ...): 100.0% right")
    assert counted.form.origin == ""
    torch.testing.assert_close(folders.network.head.weight, counted.network.head.weight)


def test_a_head_of_more_classes_is_cut_by_its_names(tmp_path: Path, settings: FitSettings) -> None:
    (tmp_path / "names.txt").write_text("background\n" + "\n".join(f"Class_{k}" for k in range(9)))
    torch.manual_seed(0)
    wide = Net(nn.Linear(6, 10))
    base = base_of(settings, wide, names=str(tmp_path / "names.txt"))
    torch.testing.assert_close(base.head.of(base.network).weight, wide.head.weight[1:9])
    assert base.form.reordered
    assert base.form.origin == (
        "its names are matched: "
        + ", ".join(f"Class_{k} for class {k}" for k in range(8))
        + "; the head, of 10 outputs, is cut to the data's 8"
    )
    rebuilt, _ = rebuild_base(settings, base.form, base.head, 8, PREPROCESSING, wide, None, 10**6)
    rebuilt.load_state_dict(base.network.state_dict())
    # In the data's order already: nothing is moved, and the names are said all the same.
    (tmp_path / "names.txt").write_text("\n".join(f"Class_{k}" for k in range(8)))
    ordered = base_of(settings, Net(nn.Linear(6, 8)), names=str(tmp_path / "names.txt"))
    assert (ordered.form.reordered, ordered.form.origin) == (False, base.form.origin.split(";")[0])
    (tmp_path / "names.txt").write_text("\n".join(f"class {k}" for k in range(9)))
    with pytest.raises(BackboneError, match="there are 9 names for the network's 10 outputs"):
        base_of(settings, wide, names=str(tmp_path / "names.txt"))
    (tmp_path / "names.txt").write_text("\n".join(["background", *(f"class {k}" for k in (*range(7), 11, 12))]))
    with pytest.raises(BackboneError, match=r"only the network has background, class 11.*only the data has class 7"):
        base_of(settings, wide, names=str(tmp_path / "names.txt"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_function_builds_the_base_and_a_file_holds_its_weights(
    suffix: str, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    network = trained(make_8(), splits)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, file)
    else:
        safetensors.torch.save_file(network.state_dict(), file)
    ours = changed(settings, backbone="networks:make_8", weights=str(file))
    assert [stage.title for stage in make_plan(prepare(ours, splits=splits)).stages] == [
        "3 specialists",
        "validation and test",
    ]
    fitted = coterie.fit(ours, tmp_path / "run", splits=splits)
    inputs = splits.preprocessing(splits.test.samples.read(torch.arange(5)))
    torch.testing.assert_close(fitted.base(inputs), network(inputs))
    proba = fitted.predict_proba(splits.test.samples)
    with pytest.raises(ArtifactError, match=r"built by the function networks:make_8, and loading runs no code unasked"):
        coterie.load(tmp_path / "run")
    with pytest.raises(ArtifactError, match="runs no code unasked"):
        coterie.load(tmp_path / "run", trust="networks:make_nothing")
    for loaded in (
        coterie.load(tmp_path / "run", trust="networks:make_8"),
        coterie.load(tmp_path / "run", base=make_8()),
    ):
        np.testing.assert_array_equal(proba, loaded.predict_proba(splits.test.samples))


def test_a_manifest_that_names_a_function_does_not_get_it_called(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    coterie.fit(settings, tmp_path / "run", splits=splits)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["settings"]["backbone"] = "os:getcwd"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="os:getcwd, and loading runs no code unasked"):
        coterie.load(tmp_path / "run")


def test_a_function_without_weights_is_trained_and_own_weights_are_not(settings: FitSettings) -> None:
    assert not base_of(settings, backbone="networks:make_8").trained
    assert base_of(settings, backbone="networks:make_8", weights="own").trained
    with pytest.raises(BackboneError, match="convnet-8 comes without weights"):
        base_of(settings, weights="own")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("networks:missing", "networks:missing builds no network: AttributeError"),
        ("no_such_module:f", "ModuleNotFoundError"),
        ("networks:make_nothing", "returns a str; a torch.nn.Module is needed"),
        ("torchvision:resnet", "torchvision has no classification model 'resnet'; did you mean resnet"),
        ("torchvision:resnet18", "takes RGB images; these have 1 channel"),
        ("python:networks.Net", "was passed from Python, and is needed again"),
        ("convnet", "unknown backbone 'convnet'; allowed for images: .*module:function"),
    ],
)
def test_a_base_that_cannot_be_built_is_named(backbone: str, message: str, settings: FitSettings) -> None:
    with pytest.raises(BackboneError, match=message):
        base_of(settings, backbone=backbone)


def test_a_function_is_found_in_the_current_folder(tmp_path: Path, settings: FitSettings, monkeypatch) -> None:
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8))\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert base_of(settings, backbone="my_networks:make").head.path == "1"
    assert sys.path == path


def test_a_head_of_another_width_than_the_data_is_refused_with_both_numbers(settings: FitSettings) -> None:
    with pytest.raises(BackboneError, match=r"gives 5 classes.*the data has 8 classes"):
        base_of(settings, Net(nn.Linear(6, 5)))


def test_probabilities_are_refused(settings: FitSettings) -> None:
    with pytest.raises(BackboneError, match=r"gives probabilities, not logits.*after.0 \(Softmax"):
        base_of(settings, Net(nn.Linear(6, 8), nn.Softmax(1)))


def test_of_two_heads_one_is_picked_by_name(settings: FitSettings) -> None:
    network = Structured(8, lambda main, side, _: (main, side))
    with pytest.raises(BackboneError, match=r"2 parts that could be its logits: 0 \(head head\), 1 \(head side\)"):
        base_of(settings, network)
    base = base_of(settings, network, head="side")
    torch.testing.assert_close(base.network(EXAMPLE), network(EXAMPLE)[1])
    with pytest.raises(BackboneError, match=r"has no layer '(network\.)?other'"):
        base_of(settings, network, head="other")


def test_classes_in_another_order_are_matched_by_name(tmp_path: Path, settings: FitSettings) -> None:
    network = make_8()
    order = np.random.default_rng(0).permutation(8)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(LABELS.names[k] for k in order))  # what the network's outputs stand for
    base = base_of(settings, network, names=str(names))
    assert base.form.reordered
    torch.testing.assert_close(base.network(EXAMPLE)[:, order], network(EXAMPLE))
    names.write_text("\n".join(LABELS.names))
    assert not base_of(settings, network, names=str(names)).form.reordered
    names.write_text("\n".join([*LABELS.names[:7], "zebra"]))
    with pytest.raises(BackboneError, match="only the network has zebra; only the data has class 7"):
        base_of(settings, network, names=str(names))


def test_data_whose_classes_are_numbers_counts_them_as_the_network_does(settings: FitSettings) -> None:
    numbers = LabelSpace(("0", "3", "1", "2", "4", "5", "6", "7"))
    network = make_8()
    base = base_of(settings, network, labels=numbers)
    torch.testing.assert_close(base.network(EXAMPLE), network(EXAMPLE)[:, [0, 3, 1, 2, 4, 5, 6, 7]])


@pytest.mark.parametrize("make", [lambda: Net(nn.Linear(6, 8)), lambda: Tied(8)])
def test_a_reordered_base_is_saved_and_loaded_in_the_datas_order(
    make, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    torch.manual_seed(0)
    network = trained(make(), splits)
    order = [3, 1, 2, 0, 7, 4, 5, 6]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(splits.labels.names[k] for k in order))
    shuffled = make()
    shuffled.load_state_dict(network.state_dict())
    rows = network.head.weight.detach()[order]
    if isinstance(shuffled, Tied):
        shuffled.head.weight = nn.Parameter(rows)
    else:
        shuffled.head.weight.data, shuffled.head.bias.data = rows, network.head.bias.detach()[order]
    fitted = coterie.fit(changed(settings, names=str(names)), tmp_path / "run", base=shuffled, splits=splits)
    inputs = splits.preprocessing(splits.test.samples.read(torch.arange(5)))
    torch.testing.assert_close(fitted.base(inputs), network(inputs))
    loaded = coterie.load(tmp_path / "run", base=shuffled)
    np.testing.assert_array_equal(fitted.predict_proba(splits.test.samples), loaded.predict_proba(splits.test.samples))


def test_an_order_that_nobody_named_is_found_out(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    network = trained(make_8(), splits)
    network.head.weight.data = network.head.weight.data.roll(1, 0)
    network.head.bias.data = network.head.bias.data.roll(1, 0)
    with pytest.raises(BackboneError, match=r"if its classes are renamed: they are in another order.*--names FILE"):
        coterie.fit(settings, tmp_path / "run", base=network, splits=splits)


@pytest.mark.parametrize("trainable", ["head", "last-2", "stage3"])
def test_specialists_share_what_is_not_trained(
    trainable: str, tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    specialist = {**settings.specialist.model_dump(), "trainable": trainable}
    coterie.fit(changed(settings, specialist=specialist), tmp_path / "run", splits=splits)
    run = Run.open_complete(tmp_path / "run")
    base = run.read_tensors("base.safetensors")
    for name in (name for name in run.manifest.files if name.startswith("specialists/")):
        moved = set(run.read_tensors(name))  # what is the base's is not kept a second time
        allowed = ("head.",) if trainable == "head" else ("head.", "stage3.")
        assert {"head.weight"} < moved
        assert all(key.startswith(allowed) for key in moved)
    ensemble = coterie.load(tmp_path / "run")
    for specialist in ensemble.specialists.values():
        assert all(key.startswith(("head.", "stage3.")) for key in specialist.state_dict())  # the trunk is the base's
    assert torch.equal(ensemble.base.state_dict()["stem.0.weight"], base["stem.0.weight"])
    right = ensemble.predict(splits.test.samples) == splits.test.labels_N.numpy()
    assert read_reports(run)["test"].ensemble_top1 == pytest.approx(right.mean())


def test_a_part_that_is_none_stops_before_training(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    specialist = {**settings.specialist.model_dump(), "trainable": "layer9"}
    with pytest.raises(BackboneError, match="ConvNet has no part 'layer9' that runs; allowed: all, head, last-N"):
        coterie.fit(changed(settings, specialist=specialist), tmp_path / "run", splits=splits)
    assert not (tmp_path / "run").exists()


def test_the_label_embeddings_of_a_run_are_its_heads_rows_and_older_runs_have_them_too(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    coterie.fit(settings, tmp_path / "run", splits=splits)
    run = Run.open_complete(tmp_path / "run")
    rows_CD, bias_C = read_head(run)
    run.forget([HEAD_FILE])
    old_CD, old_C = read_head(run)
    np.testing.assert_array_equal(rows_CD, old_CD)
    np.testing.assert_array_equal(bias_C, old_C)


def test_a_base_in_half_precision_is_taken_in_single(settings: FitSettings) -> None:
    assert base_of(settings, make_8().half()).network.head.weight.dtype == torch.float32


def test_outputs_of_a_named_tuple_are_known_by_name(settings: FitSettings) -> None:
    base = base_of(settings, Structured(8, lambda main, side, _: Outputs(main, side)))
    assert base.form.output == "logits"
