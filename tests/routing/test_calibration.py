import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from coterie.errors import InputError
from coterie.partition import Partition
from coterie.routing.calibration import HIGHEST, LOWEST, Temperatures, fit_temperatures, temperature


def drawn(n: int, n_classes: int, true_temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits_NC = 2 * rng.normal(size=(n, n_classes))
    noise_NC = rng.gumbel(size=(n, n_classes))
    return logits_NC, (logits_NC / true_temperature + noise_NC).argmax(axis=1)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_drew_the_labels_is_found(true_temperature: float) -> None:
    assert temperature(*drawn(20_000, 10, true_temperature)) == pytest.approx(true_temperature, rel=0.03)


@given(st.integers(0, 1000), st.integers(200, 600), st.integers(2, 8))
def test_it_agrees_with_minimising_scikit_learns_log_loss(seed: int, n: int, n_classes: int) -> None:
    logits_NC, label_N = drawn(n, n_classes, 1.7, seed)

    def loss(log_t: float) -> float:
        proba_NC = np.exp(log_softmax(logits_NC / np.exp(log_t), axis=1))
        return n * log_loss(label_N, proba_NC, labels=np.arange(n_classes)) + log_t**2 / 2

    theirs = np.exp(minimize_scalar(loss, bounds=(-2.9, 2.9), method="bounded").x)
    assert temperature(logits_NC, label_N) == pytest.approx(theirs, rel=0.01)


def test_float32_gives_the_same_as_float64() -> None:
    logits_NC, label_N = drawn(5000, 50, 1.4)
    assert temperature(logits_NC.astype(np.float32), label_N) == pytest.approx(
        temperature(logits_NC, label_N), rel=5e-3
    )


def test_no_sample_gives_one_and_few_samples_give_nothing_extreme() -> None:
    assert temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1.0
    certain = temperature(np.array([[9.0, 0.0, 0.0]]), np.array([0]))
    mistaken = temperature(np.array([[9.0, 0.0, 0.0]]), np.array([1]))
    assert LOWEST < certain <= 1 < mistaken < HIGHEST


def test_samples_of_one_class_only_give_a_temperature_in_range() -> None:
    logits_NC, _ = drawn(300, 4, 1.0)
    logits_NC[:, 2] += 10
    assert LOWEST <= temperature(logits_NC, np.full(300, 2)) < 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="finite logits"):
        temperature(np.array([[0.0, bad]]), np.array([0]))


def test_a_specialist_is_judged_on_its_own_classes_and_one_without_samples_is_left_as_it_is() -> None:
    partition = Partition.from_assignment([0, 0, 1, 1])
    logits_NC, label_N = drawn(4000, 4, 1.0)
    rows = label_N < 2
    packed_NM = 3 * logits_NC
    packed_NM[~rows] = 1e6  # other classes' samples must have no say
    fitted = fit_temperatures(logits_NC[rows], packed_NM[rows], label_N[rows], partition)
    assert fitted.specialist_S[0] == pytest.approx(3, rel=0.1)
    assert fitted.specialist_S[1] == 1.0
    assert fit_temperatures(logits_NC, packed_NM, label_N, partition).specialist_S[0] == fitted.specialist_S[0]


def test_columns_get_their_clusters_temperature() -> None:
    partition = Partition.from_assignment([0, 1, 0])
    assert Temperatures(1.0, (2.0, 3.0)).of_columns(partition).tolist() == [2, 2, 3]
    assert Temperatures().of_columns(partition).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("base", "specialists"), [(0.0, (1.0,)), (1.0, (np.inf,)), (np.nan, (1.0,)), (1.0, ())])
def test_temperatures_that_are_none_are_refused(base: float, specialists: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="positive and finite"):
        Temperatures(base, specialists)
