import copy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from torch import nn

from coterie.backbones import Head, build, find_head
from coterie.config import HardwareSettings
from coterie.data.splits import Split
from coterie.errors import BackboneError
from coterie.inputs import NGramPreprocessing
from coterie.progress import Progress
from coterie.training.fabric import make_fabric
from coterie.training.linear_probe import (
    PENALTY,
    ClassNames,
    can_be_probed,
    check_probed,
    fit_probe,
    fitted_head,
    logistic_regression,
)
from coterie.training.passes import compute_features, compute_logits
from helpers import Notes, image_form, make_split

FABRIC = make_fabric(HardwareSettings(accelerator="cpu", precision="fp32"))
SPLIT, FORM = make_split(4, 6, 0), image_form(1, 12)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_head_is_that_of_logistic_regression_on_features_of_deviation_one(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    label_N = np.arange(60) % n_classes
    features_ND = (rng.normal(size=(60, 4)) * [1, 10, 0.1, 3] + label_N[:, None] + [0, 50, 0, -7]).astype(np.float32)
    weight_KD, bias_K, record = logistic_regression(features_ND, label_N)
    scaled_ND = (features_ND - features_ND.mean(axis=0)) / features_ND.std(axis=0)
    theirs = LogisticRegression(C=1 / PENALTY, max_iter=200).fit(scaled_ND, label_N)
    ours_NK = log_softmax(features_ND @ weight_KD.T + bias_K, axis=1)
    np.testing.assert_allclose(ours_NK, theirs.predict_log_proba(scaled_ND), atol=1e-3)
    assert record.accuracy == theirs.score(scaled_ND, label_N)
    assert record.loss == pytest.approx(-ours_NK[np.arange(60), label_N].mean(), abs=1e-3)


def test_nothing_but_the_head_is_changed() -> None:
    network = build("convnet-8", 6, FORM, 0)
    head = find_head(network.eval(), 6, FORM.example()[:2])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    features_ND = compute_features(FABRIC, network, head, SPLIT.samples, FORM)
    record = fit_probe(FABRIC, network, head, SPLIT, FORM)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"}
    weight_KD, bias_K, expected = logistic_regression(features_ND, SPLIT.labels_N.numpy())
    assert record == expected
    logits_NK = compute_logits(FABRIC, network, SPLIT.samples, FORM)
    np.testing.assert_allclose(logits_NK, features_ND @ weight_KD.T + bias_K, atol=1e-4)


def test_a_head_that_is_no_linear_layer_with_a_bias_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    assert not can_be_probed(network, Head("1", 4, 3))
    assert not can_be_probed(nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3)), Head("0", 4, 3, more=("1",)))
    with pytest.raises(BackboneError, match=r"needs a head that is one linear layer with a bias; 1 of Sequential"):
        check_probed(network, Head("1", 4, 3))


def test_the_pass_is_told_of_batch_by_batch() -> None:
    class Told(Progress):
        title, steps, done, samples = "", 0, 0, 0

        def stage(self, title: str, steps: int) -> None:
            self.title, self.steps = title, steps

        def advance(self, steps, n_images=0, loss=None, accuracy=None) -> None:
            self.done, self.samples = self.done + steps, self.samples + n_images

    network, told = build("convnet-8", 6, FORM, 0), Told()
    head = find_head(network.eval(), 6, FORM.example()[:2])
    n_steps = -(-len(SPLIT) // FORM.at_once)
    fit_probe(FABRIC, network, head, SPLIT, FORM, told, "a probe")
    assert (told.title, told.steps, told.done, told.samples) == ("a probe", n_steps, n_steps, len(SPLIT))
    fitted_head(FABRIC, network, head, SPLIT, SPLIT, FORM, told)
    assert (told.steps, told.done, told.samples) == (2 * n_steps, 3 * n_steps, 3 * len(SPLIT))


WORDS = ("red", "green", "blue", "black")


def of_texts(texts: list[str], label_N: list[int], form: NGramPreprocessing) -> Split:
    return Split(form.samples(texts), torch.tensor(label_N))


@pytest.mark.parametrize(("names", "taken"), [(WORDS, True), (WORDS[1:] + WORDS[:1], False)])
def test_names_of_classes_are_learned_from_where_that_lowers_the_loss_on_others(
    names: tuple[str, ...], taken: bool
) -> None:
    form = NGramPreprocessing(buckets=2**12, longest=64)
    network = build("ngram-32", 4, form, 0)
    head = find_head(network.eval(), 4, form.example()[:2])
    # What is said of a class in training is said of all.
    train = of_texts([f"{a} one {number}" for number, a in enumerate("abcabcabcabc")], [0, 1, 2, 3] * 3, form)
    judge = of_texts([f"the {word} one" for word in WORDS], [0, 1, 2, 3], form)
    plain, told = copy.deepcopy(network), Notes()
    fit_probe(FABRIC, plain, head, train, form)
    record = fit_probe(FABRIC, network, head, train, form, told, names=ClassNames(names, judge))
    assert bool(told.notes) == taken
    right, right_without = (
        int((compute_logits(FABRIC, each, judge.samples, form).argmax(axis=1) == judge.labels_N.numpy()).sum())
        for each in (network, plain)
    )
    if taken:
        assert "the names of the classes are learned from too" in told.notes[0]
        assert right > right_without
    else:
        for ours, theirs in zip(network.state_dict().values(), plain.state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    logits_NK = compute_logits(FABRIC, network, train.samples, form)
    assert record.accuracy == (logits_NK.argmax(axis=1) == train.labels_N.numpy()).mean()


def test_a_name_counts_as_so_many_samples() -> None:
    rng = np.random.default_rng(0)
    label_N = np.arange(30) % 3
    features_ND = rng.normal(size=(30, 4)).astype(np.float32)
    name_KD = rng.normal(size=(3, 4)).astype(np.float32)
    weight_KD, bias_K, _ = logistic_regression(features_ND, label_N, name_KD)
    mean_D, std_D = features_ND.mean(axis=0), features_ND.std(axis=0)
    repeated_ND = (np.concatenate([features_ND, *[name_KD] * 3]) - mean_D) / std_D
    theirs = LogisticRegression(C=1 / PENALTY, max_iter=200).fit(repeated_ND, np.r_[label_N, np.tile(np.arange(3), 3)])
    ours_NK = log_softmax(features_ND @ weight_KD.T + bias_K, axis=1)
    np.testing.assert_allclose(ours_NK, theirs.predict_log_proba((features_ND - mean_D) / std_D), atol=1e-3)
