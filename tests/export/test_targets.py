import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coterie.backbones import build, find_head
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import HardwareSettings
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ExportError, SettingsError
from coterie.export.graphs import NetworkGraph, graphs_of
from coterie.export.targets import GRAPH_TARGETS, Onnx, OpenVino, Torch, program_of
from coterie.inputs import FeaturePreprocessing, Scale
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule

pytestmark = pytest.mark.slow

CPU = HardwareSettings(accelerator="cpu", precision="fp32", threads=1)
FORM = FeaturePreprocessing(Scale((0.5,) * 5, (2.0,) * 5))
TWO = Partition.stack([Partition.from_assignment([0, 0, 1, 1, 1, 2]), Partition.from_assignment([0, 1, 0, 1, 0, 1])])
BLEND = Rule(Gate(0.0), Combiner.named("blend", (0.6,), top=2, temperature=1.2), Temperatures(1.3, (0.8,)))
HARD = Rule(Gate(0.0, "contested"))
FEATURES = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


def ensemble(rule: Rule, partition: Partition, *, shared: bool = True) -> SpecialistEnsemble:
    """Specialists that differ from the base, on its hidden layer or whole."""
    base = build("mlp-16", 6, FORM, seed=0).eval()
    head = find_head(base, 6, FORM.example())
    specialists: list[nn.Module | None] = []
    for cluster, size in enumerate(partition.size_S.tolist()):
        specialist = make_specialist(base, head, partition.classes(cluster)).eval()
        specialist.head.weight.data += torch.randn(
            specialist.head.weight.shape, generator=torch.Generator().manual_seed(cluster)
        )
        specialists.append(as_asked(specialist, "hidden" if shared else None, FORM.example()) if size > 1 else None)
    names = LabelSpace(tuple("abcdef"))
    return SpecialistEnsemble(base, specialists, partition, names, rule, FORM, CPU, "hidden" if shared else None)


NEEDED = {"torch": (), "onnx": Onnx.packages, "openvino": (*Onnx.packages, "openvino")}


@pytest.fixture(params=NEEDED)
def target(request: pytest.FixtureRequest):
    if any(importlib.util.find_spec(name) is None for name in NEEDED[request.param]):
        pytest.skip("the extra is not installed")
    return GRAPH_TARGETS[request.param]()


@pytest.mark.parametrize(("rule", "partition", "raw"), [(BLEND, TWO, False), (HARD, TWO, True)])
def test_one_graph_answers_as_the_ensemble_for_any_number_of_samples(tmp_path, target, rule, partition, raw) -> None:
    both = ensemble(rule, partition)
    middle = float(np.median(both.decide(FEATURES).score_N))  # between two of the even number of samples
    both.rule = replace(rule, gate=replace(rule.gate, threshold=middle))
    decision = both.decide(FEATURES)
    assert decision.routed_N.sum() == 20
    ((name, graph),) = graphs_of(both, FORM if raw else None).items()
    program = program_of(name, graph, FORM.example(), any_length=False)
    file = tmp_path / f"{name}{target.suffix}"
    target.write(program, graph.outputs, {"coterie": "a note"}, file)
    run = target.open(file)
    batch = torch.from_numpy(FEATURES) if raw else FORM(torch.from_numpy(FEATURES))
    for rows in (slice(0, 1), slice(0, 40)):
        proba_NC, routed_N, cluster_N = run(batch[rows])
        np.testing.assert_allclose(proba_NC, decision.proba_NC[rows], atol=1e-6)
        np.testing.assert_array_equal(routed_N, decision.routed_N[rows])
        np.testing.assert_array_equal(cluster_N, decision.cluster_N[rows])
    assert b"a note" in file.read_bytes()


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_with_fewer_bits_the_networks_answer_about_the_same_and_the_rule_stays_exact(tmp_path, target, weights) -> None:
    if weights == "int8" and isinstance(target, Torch):
        with pytest.raises(SettingsError, match="--to torch keeps weights as fp32 or fp16: int8 is for --to onnx"):
            Torch("int8")
        return
    both = ensemble(BLEND, TWO)
    ((name, graph),) = graphs_of(both, None).items()
    few = type(target)(weights)
    graph = graph.half() if weights == "fp16" else graph
    file = tmp_path / f"few{few.suffix}"
    few.write(program_of(name, graph, FORM.example(), any_length=False), graph.outputs, {}, file)
    proba_NC = few.open(file)(FORM(torch.from_numpy(FEATURES)))[0]
    assert proba_NC.dtype == np.float32
    np.testing.assert_allclose(proba_NC.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(proba_NC, ensemble(BLEND, TWO).predict_proba(FEATURES), atol=0.02)


def test_whole_specialists_are_a_graph_each_and_those_without_weight_none() -> None:
    weights = tuple(float(k != 1) for k in range(TWO.n_clusters))
    both = ensemble(Rule(Gate(0.0), Combiner.named("compose", weights)), TWO, shared=False)
    assert list(graphs_of(both, None)) == ["base", "specialist-0", "specialist-3", "specialist-4"]


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 4)


def program(network: nn.Module) -> torch.export.ExportedProgram:
    return program_of("base", NetworkGraph(network, None), torch.randn(2, 4), any_length=False)


@pytest.mark.parametrize("network", [Branching(), Fixed()])
def test_code_that_depends_on_values_or_on_the_number_of_samples_is_refused(network, capfd) -> None:
    with pytest.raises(ExportError, match=r"base cannot be written as a graph for any number of samples: \w+"):
        program(network)
    assert capfd.readouterr() == ("", "")


def test_an_operation_that_onnx_lacks_is_named_with_its_module(tmp_path) -> None:
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    with pytest.raises(ExportError, match=r"ONNX lacks the operation prims\.bessel_j0.* the module 'network\.1' uses"):
        Onnx().write(program(nn.Sequential(nn.Linear(4, 4), Bessel())), ("logits",), {}, tmp_path / "base.onnx")
    Torch().write(program(Bessel()), ("logits",), {}, tmp_path / "base.pt2")


def test_what_is_missing_of_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setattr(Onnx, "packages", ("torch", "no_such_package"))
    with pytest.raises(SettingsError, match=r"needs no_such_package: pip install 'coterie\[export\]'"):
        Onnx()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"--to openvino needs openvino: pip install 'coterie\[openvino\]'"):
        OpenVino()
