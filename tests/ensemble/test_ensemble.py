import copy
import io
import logging
import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import coterie
from coterie.backbones import build, find_head
from coterie.backbones.specialist import make_specialist
from coterie.config import HardwareSettings
from coterie.data import new
from coterie.ensemble import panel
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import DataError, InputError
from coterie.inputs import ImagePreprocessing
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule
from coterie.run.load import load_ensemble
from helpers import FIXTURES

CPU = HardwareSettings(accelerator="cpu", precision="fp32", threads=1)
FORM = ImagePreprocessing(12, 12, 1, (100.0,), (50.0,))
PARTITION = Partition.from_assignment([0, 0, 1, 1, 1, 2])


@pytest.fixture
def base() -> nn.Module:
    return build("convnet-8", 6, FORM, seed=3).eval()


RULES = {
    "hard": Rule(Gate(0.0)),
    "compose": Rule(Gate(0.0), Combiner.named("compose")),
    "blend": Rule(Gate(0.0), Combiner.named("blend", (0.6, 0.4, 1.0), top=2), Temperatures(1.5, (2.0, 1.2, 1.0))),
    "contested": Rule(Gate(0.0, "contested"), Combiner.named("average", (0.5,))),
}


def ensemble(base: nn.Module, threshold: float, rule: str = "hard", shift: float = 0.0) -> SpecialistEnsemble:
    """Untrained specialists; ``shift`` moves their weights away from the base's."""
    head = find_head(base, 6, torch.randn(2, 1, 12, 12))
    specialists = []
    for cluster in range(3):
        network = make_specialist(base, head, PARTITION.classes(cluster)) if PARTITION.size_S[cluster] > 1 else None
        if network is not None:
            generator = torch.Generator().manual_seed(cluster)
            for parameter in network.parameters():
                parameter.data += shift * torch.randn(parameter.shape, generator=generator)
        specialists.append(network)
    names = LabelSpace(tuple("abcdef"))
    chosen = replace(RULES[rule], gate=replace(RULES[rule].gate, threshold=threshold))
    return SpecialistEnsemble(base, specialists, PARTITION, names, chosen, FORM, CPU)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(40, 12, 12, 1), dtype=np.uint8)


@pytest.fixture
def middle(base: nn.Module, images: np.ndarray) -> float:
    """A threshold that routes about half of the images."""
    return float(np.median(ensemble(base, 0.0).decide(images).score_N))


def test_a_gate_that_routes_nothing_returns_the_bases_probabilities_bit_for_bit(base, images) -> None:
    decision = ensemble(base, np.inf, shift=0.5).decide(images)
    shifted = decision.base_logits_NC - decision.base_logits_NC.max(axis=1, keepdims=True)
    np.testing.assert_allclose(decision.proba_NC, np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True), rtol=1e-5)
    other = ensemble(base, np.inf, rule="compose").decide(images)
    np.testing.assert_array_equal(decision.proba_NC, other.proba_NC)
    with torch.inference_mode():
        logits = base(FORM(torch.from_numpy(images))).numpy()
    np.testing.assert_array_equal(decision.base_logits_NC, logits)


def half(base, images, rule: str) -> float:
    """The threshold at which the rule's gate routes about half of the images."""
    return float(np.median(ensemble(base, 0.0, rule).decide(images).score_N))


@pytest.mark.parametrize("rule", RULES)
def test_rows_sum_to_one_predict_is_the_argmax_and_sure_rows_are_untouched(base, images, rule) -> None:
    both = ensemble(base, half(base, images, rule), rule, shift=0.5)
    decision = both.decide(images)
    assert 10 < decision.routed_N.sum() < 30
    np.testing.assert_allclose(decision.proba_NC.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(both.predict(images), both.predict_proba(images).argmax(axis=1))
    alone = ensemble(base, np.inf, rule).predict_proba(images)
    np.testing.assert_array_equal(decision.proba_NC[~decision.routed_N], alone[~decision.routed_N])
    changed_N = decision.asked_NS[:, :2].any(axis=1)  # the third cluster has one class, and nobody to ask
    assert (decision.proba_NC[changed_N] != alone[changed_N]).any(axis=1).all()
    assert not changed_N[~decision.routed_N].any()


def test_files_pictures_and_names(base, images, middle, tmp_path, monkeypatch) -> None:
    both = ensemble(base, middle, shift=0.5)
    pictures = [Image.fromarray(image[..., 0]) for image in images]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number:02}.png")
    monkeypatch.setattr(new, "ROWS", 16)  # several batches
    expected_NC = both.predict_proba(images)
    for raw in (tmp_path, str(tmp_path / "*.png"), pictures):
        np.testing.assert_allclose(both.predict_proba(raw), expected_NC, atol=1e-6)
    assert both.predict(pictures[0]).shape == (1,)
    assert both.predict(tmp_path, names=True).tolist() == ["abcdef"[k] for k in expected_NC.argmax(1)]
    (tmp_path / "99.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"99\.png: not an image"):
        both.predict(tmp_path)


def test_shuffling_a_batch_changes_nothing(base, images, middle) -> None:
    both = ensemble(base, middle, shift=0.5)
    order = np.random.default_rng(1).permutation(len(images))
    np.testing.assert_allclose(both.predict_proba(images)[order], both.predict_proba(images[order]), atol=1e-6)


def test_an_untrained_specialist_is_the_base_restricted_to_its_cluster(base, images) -> None:
    decision = ensemble(base, 0.0, "compose").decide(images)
    # P(cluster) * P(class | cluster) of one and the same network is its own probability.
    np.testing.assert_allclose(decision.proba_NC, ensemble(base, np.inf).predict_proba(images), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_the_module_goes_where_the_base_went(base, images, rule) -> None:
    both = ensemble(base, half(base, images, rule), rule, shift=0.5)
    inputs = FORM(torch.from_numpy(images))
    values = both(inputs)
    assert values.shape == (40, 6)
    np.testing.assert_allclose(values.softmax(1).numpy(), both.predict_proba(images), atol=1e-5)
    sure = ~torch.from_numpy(both.decide(images).routed_N)
    with torch.inference_mode():
        torch.testing.assert_close(
            values[sure], base(inputs)[sure] / both.rule.temperatures.base, rtol=0, atol=1e-5, check_dtype=False
        )
    assert torch.isfinite(nn.functional.cross_entropy(values, values.argmin(1)))


@pytest.mark.parametrize(("rule", "top"), [("hard", 1), ("contested", 1), ("blend", 2)])
def test_only_the_likely_clusters_specialists_are_asked_and_only_for_routed_images(base, images, rule, top) -> None:
    both = ensemble(base, half(base, images, rule), rule, shift=0.5)
    seen: dict[str, int] = {}
    for name, network in both.specialists.items():
        network.register_forward_hook(lambda _, inputs, __, name=name: seen.update({name: len(inputs[0])}))
    decision = both.decide(images)
    mass_NS = PARTITION.mass_NS(np.exp(decision.base_logits_NC / np.float32(both.rule.temperatures.base)))
    for row in range(len(images)):
        asked = {s for s in range(3) if not np.isnan(decision.packed_logits_NM[row, PARTITION.columns(s)]).any()}
        likely = set(np.argsort(-mass_NS[row])[:top].tolist()) - {2}
        assert asked == (likely if decision.routed_N[row] else set())
    # The networks saw these rows and no others.
    assert seen == {str(s): int(decision.asked_NS[:, s].sum()) for s in range(2) if decision.asked_NS[:, s].any()}


@pytest.mark.parametrize("rule", RULES)
def test_an_explanation_tells_what_happened(base, images, rule) -> None:
    both = ensemble(base, half(base, images, rule), rule, shift=0.5)
    decision = both.decide(images)
    for row, explanation in enumerate(both.explain(images, top=2)):
        assert explanation.predicted == "abcdef"[decision.proba_NC[row].argmax()]
        assert explanation.probability == pytest.approx(decision.proba_NC[row].max())
        assert explanation.routed == decision.routed_N[row] == (explanation.score >= explanation.threshold)
        assert explanation.score_name == both.rule.gate.score
        assert explanation.base_top[0][0] == "abcdef"[decision.base_logits_NC[row].argmax()]
        assert len(explanation.base_top) == 2
        assert explanation.cluster_classes == tuple("abcdef"[k] for k in PARTITION.classes(explanation.cluster))
        heard = [answer.cluster for answer in explanation.specialists]
        assert sorted(heard) == [s for s in range(2) if decision.asked_NS[row, s]]
        for answer in explanation.specialists:
            names = {"abcdef"[k] for k in PARTITION.classes(answer.cluster)}
            assert {name for name, _ in answer.top} <= names
            assert answer.weight == both.rule.combiner.weights(PARTITION)[answer.cluster]
        if rule == "hard" and heard:
            assert explanation.predicted == explanation.specialists[0].top[0][0]
        if len(heard) == 2:
            assert heard[0] == explanation.cluster


def test_the_classes_of_a_cluster_of_all_are_not_listed(base, images) -> None:
    whole, names = Partition.from_assignment([0] * 6), LabelSpace(tuple("abcdef"))
    copied = SpecialistEnsemble(base, [copy.deepcopy(base)], whole, names, Rule(Gate(0.0)), FORM, CPU)
    assert {(one.routed, one.cluster_classes) for one in copied.explain(images)} == {(True, ())}


def test_a_specialist_without_weight_is_never_run(base, images) -> None:
    both = ensemble(base, 0.0, "compose", shift=0.5)
    likely = int(both.decide(images[:1]).cluster_N[0])
    both.rule = replace(both.rule, combiner=Combiner.named("compose", tuple(float(k != likely) for k in range(3))))
    both.specialists[str(likely)].register_forward_hook(lambda *_: pytest.fail("it was run"))
    decision = both.decide(images)
    assert decision.routed_N.all()
    assert not decision.asked_NS[:, likely].any()
    explanation = both.explain(images[:1])[0]
    assert explanation.routed
    assert explanation.specialists == ()


def test_a_long_list_is_worked_off_in_chunks(base, images, middle, monkeypatch) -> None:
    both = ensemble(base, middle, shift=0.5)
    whole = both.decide(images)
    monkeypatch.setattr(panel, "CHUNK", 7)
    np.testing.assert_allclose(both.decide(images).proba_NC, whole.proba_NC, atol=1e-6)


def test_grey_images_may_come_without_a_channel(base, images) -> None:
    both = ensemble(base, 0.0)
    np.testing.assert_array_equal(both.predict(images), both.predict(images[..., 0]))
    np.testing.assert_array_equal(both.predict(images), both.predict(torch.from_numpy(images)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((2, 12, 12, 1)), r"uint8 of shape \(N, 12, 12, 1\).*float64"),
        (np.zeros((0, 12, 12, 1), np.uint8), "N at least 1"),
        (np.zeros((2, 13, 12, 1), np.uint8), r"\(12, 12, 1\); got samples of shape \(13, 12, 1\)"),
        (np.zeros((2, 12, 12, 3), np.uint8), r"got samples of shape \(12, 12, 3\)"),
        (np.zeros((12, 12), np.uint8), "got uint8 of shape"),
    ],
)
def test_images_of_another_form_are_refused(base, bad, message) -> None:
    with pytest.raises(InputError, match=message):
        ensemble(base, 0.0).predict(bad)


def test_a_specialist_for_each_cluster_is_needed(base) -> None:
    with pytest.raises(InputError, match="3 clusters need as many specialists; got 1"):
        SpecialistEnsemble(base, [None], PARTITION, LabelSpace(tuple("abcdef")), Rule(Gate(0.0)), FORM, CPU)


def process_state() -> tuple:
    """What a library leaves alone unless it is told otherwise."""
    names = ["", *logging.root.manager.loggerDict]
    levels = {name: logging.getLogger(name).level for name in names}
    return torch.get_num_threads(), torch.get_rng_state().tolist(), dict(os.environ), levels


@pytest.fixture
def two_threads():
    """Another number than the settings of these tests name."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_making_and_asking_an_ensemble_changes_nothing_in_the_process(base, images, two_threads) -> None:
    head = find_head(base, 6, torch.randn(2, 1, 12, 12))
    specialists = [make_specialist(base, head, PARTITION.classes(cluster)) for cluster in range(2)]
    before = process_state()
    made = SpecialistEnsemble(
        base, [*specialists, None], PARTITION, LabelSpace(tuple("abcdef")), Rule(Gate(0.0)), FORM, CPU
    )
    made.predict(images)
    assert process_state() == before


def test_loading_an_ensemble_changes_nothing_in_the_process(tmp_path, settings, splits, two_threads) -> None:
    coterie.fit(settings, tmp_path, splits=splits)
    torch.set_num_threads(2)
    before = process_state()
    load_ensemble(tmp_path)
    threads, _, environment, levels = process_state()
    assert (threads, environment, levels) == (before[0], *before[2:])


@pytest.fixture(scope="module")
def tails() -> SpecialistEnsemble:
    """Specialists on a shared trunk; most samples are routed."""
    loaded = load_ensemble(FIXTURES / "runs" / "tails-of-two-partitions", CPU)
    assert loaded.cut is not None
    return loaded


@pytest.fixture(scope="module")
def patterns(tails) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(60, *tails.preprocessing.shape), dtype=np.uint8)


def test_eight_threads_get_the_answers_that_one_gets(tails, patterns) -> None:
    tails = copy.deepcopy(tails)  # whose number of rows at once is not yet known
    sizes = np.random.default_rng(1).integers(1, 30, size=300).tolist()
    calls = [patterns[size : 2 * size] for size in sizes]
    inputs = [tails.preprocessing(torch.from_numpy(call)) for call in calls]

    def ask(number: int) -> np.ndarray:
        return tails.predict_proba(calls[number]) if number % 2 else tails(inputs[number]).numpy()

    with ThreadPoolExecutor(8) as pool:
        concurrent = list(pool.map(ask, range(len(calls))))
    for number, answer in enumerate(concurrent):
        np.testing.assert_array_equal(answer, ask(number))


def saved_by_torch(ensemble: SpecialistEnsemble) -> SpecialistEnsemble:
    file = io.BytesIO()
    torch.save(ensemble, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), saved_by_torch])
def test_copies_answer_alike_and_share_nothing(tails, patterns, copied) -> None:
    other = copied(tails)
    np.testing.assert_array_equal(other.predict_proba(patterns), tails.predict_proba(patterns))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert (tails.predict_proba(patterns) != other.predict_proba(patterns)).any()


def answer_to(queue: multiprocessing.Queue, ensemble: SpecialistEnsemble, raw: np.ndarray) -> None:
    queue.put(ensemble.predict_proba(raw))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process_answers_alike(tails, patterns, method, two_threads) -> None:
    raw = np.concatenate([patterns] * 20)  # enough for both threads
    expected = tails.predict_proba(raw)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=answer_to, args=(queue, tails, raw))
    process.start()
    try:
        np.testing.assert_allclose(queue.get(timeout=60), expected, atol=1e-6)
    finally:
        process.kill()
        process.join()


def test_it_stays_in_evaluation_mode_and_says_so(base, images) -> None:
    both = ensemble(base, 0.0)
    inputs = FORM(torch.from_numpy(images))
    before = both(inputs)
    state = copy.deepcopy(both.state_dict())
    with pytest.warns(UserWarning, match="stays in evaluation mode"):
        nn.Sequential(both).train()
    both.base.train()  # behind its back
    torch.testing.assert_close(both(inputs), before, rtol=0, atol=0)
    assert not any(module.training for module in both.modules())
    torch.testing.assert_close(both.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize(
    "made",
    [
        torch.jit.trace,
        lambda module, _: torch.jit.script(module),
        lambda module, inputs: torch.export.export(module, (inputs,), strict=False),
        lambda module, _: torch.fx.symbolic_trace(module),
        lambda module, inputs: torch.vmap(module)(inputs[None]),
        lambda module, inputs: module(inputs.to("meta")),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_a_graph_that_would_freeze_one_answer_is_refused(base, images, made) -> None:
    with pytest.raises(InputError, match="cannot be traced, scripted, exported or mapped"):
        made(ensemble(base, 0.0), FORM(torch.from_numpy(images)))


def test_a_compiled_ensemble_answers_alike(base, images) -> None:
    both, inputs = ensemble(base, 0.0), FORM(torch.from_numpy(images))
    torch.testing.assert_close(torch.compile(both, backend="eager")(inputs), both(inputs), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda x: x.numpy(), "a tensor of 4 axes, the base's inputs; got ndarray"),
        (lambda x: x[0], r"got shape \(1, 12, 12\)"),
        (lambda x: x.expand(-1, 3, -1, -1), "takes images of 12 x 12 pixels with 1 channel.*on.*with 3 channel.*fails"),
        (lambda x: x.index_fill(0, torch.tensor([7]), torch.nan), "answers 1 sample.*NaN.*the first is number 7"),
    ],
)
def test_inputs_of_another_form_are_refused(base, images, of, message) -> None:
    with pytest.raises(InputError, match=message):
        ensemble(base, 0.0)(of(FORM(torch.from_numpy(images))))


def test_inputs_are_taken_in_any_precision_and_none_give_no_rows(base, images) -> None:
    both, inputs = ensemble(base, 0.0), FORM(torch.from_numpy(images))
    torch.testing.assert_close(both(inputs.double()), both(inputs), rtol=0, atol=0)
    assert both(inputs[:0]).shape == (0, 6)


def test_inputs_are_taken_in_any_layout(base, images) -> None:
    both, inputs = ensemble(base, 0.0), FORM(torch.from_numpy(images))
    wide = torch.cat([inputs, inputs], dim=3)
    for other in (inputs.contiguous(), inputs.contiguous(memory_format=torch.channels_last), wide[..., :12]):
        torch.testing.assert_close(both(other), both(inputs), rtol=0, atol=1e-5)


def test_gradients_flow_to_inputs_that_want_them_and_to_no_others(base, images, middle) -> None:
    both, inputs = ensemble(base, middle, "blend", shift=0.5), FORM(torch.from_numpy(images)).double()
    assert not both(inputs).requires_grad
    inputs.requires_grad_()
    values = both(inputs)
    torch.testing.assert_close(values.detach(), both(inputs.detach()), rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(values[:, 0].sum(), inputs)
    step = 1e-3 * torch.sign(gradient[0])
    with torch.no_grad():
        assert not both(inputs).requires_grad
        ahead, behind = (both(inputs[:1] + sign * step)[0, 0] for sign in (1, -1))
    # Routing is given: a step this small changes nobody's route.
    assert float(ahead - behind) == pytest.approx(float((gradient[0] * step).sum()) * 2, rel=0.1)


@pytest.mark.parametrize(
    ("moved", "to"),
    [
        (lambda both: both.half(), "torch.float16 on cpu"),
        (lambda both: both.to(torch.bfloat16), "torch.bfloat16 on cpu"),
        (lambda both: nn.Sequential(both).double(), "torch.float64 on cpu"),
        (lambda both: both.to("meta"), "torch.float32 on meta"),
    ],
)
def test_another_precision_is_refused_before_a_weight_changes(base, images, moved, to) -> None:
    both = ensemble(base, 0.0)
    before = both.predict_proba(images)
    with pytest.raises(InputError, match=f"cannot be put into {to}.*precision = 'bf16'"):
        moved(both)
    np.testing.assert_array_equal(both.predict_proba(images), before)


def test_it_moves_to_the_device_that_it_is_on_and_takes_its_weights_back(base, images) -> None:
    both = ensemble(base, 0.0, shift=0.5)
    before, state = both.predict_proba(images), copy.deepcopy(both.state_dict())
    assert both.to("cpu").float() is both
    for parameter in both.parameters():
        parameter.data.zero_()
    assert (both.predict_proba(images) != before).any()
    both.load_state_dict(state)
    np.testing.assert_array_equal(both.predict_proba(images), before)


def test_another_rule_counts_from_the_next_call_on(base, images) -> None:
    both = ensemble(base, 0.0, shift=0.5)
    assert both.decide(images).routed_N.all()
    both.rule = replace(both.rule, gate=Gate(np.inf))
    assert not both.decide(images).routed_N.any()


def test_weights_that_are_not_finite_are_named_and_not_answered(base, images, monkeypatch) -> None:
    monkeypatch.setattr(panel, "CHUNK", 7)
    both = ensemble(base, 0.0)
    asked = np.flatnonzero(both.decide(images).asked_NS[:, 1])
    next(both.specialists["1"].parameters()).data.fill_(np.nan)
    with pytest.raises(InputError, match=f"the specialist of cluster 1 answers.*the first is number {asked[0]},"):
        both.predict(images)
