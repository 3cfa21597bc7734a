import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from coterie.measures.balance import Balance, balanced_accuracy, frequency_groups, macro_f1, measure_balance

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


@given(pairs)
def test_figures_are_those_of_scikit_learn(both: list[tuple[int, int]]) -> None:
    label_N, answer_N = np.array(both).T
    recall = recall_score(label_N, answer_N, labels=np.unique(label_N), average="macro")
    assert balanced_accuracy(label_N, answer_N) == pytest.approx(recall)
    assert macro_f1(label_N, answer_N) == pytest.approx(f1_score(label_N, answer_N, average="macro", zero_division=0))


def names_of(counts: list[int]) -> dict[str, list[int]]:
    return {name: classes.tolist() for name, classes in frequency_groups(np.array(counts))}


def test_the_literatures_limits_make_the_groups() -> None:
    assert names_of([101, 100, 20, 19, 500]) == {"many": [0, 4], "medium": [1, 2], "few": [3]}
    assert names_of([500, 5]) == {"many": [0], "few": [1]}


def test_where_one_group_holds_all_thirds_are_taken() -> None:
    assert names_of([9000, 200, 150, 4000, 110, 7000]) == {"many": [0, 5], "medium": [1, 3], "few": [2, 4]}
    assert names_of([4, 2, 1]) == {"many": [0], "medium": [1], "few": [2]}


@pytest.mark.parametrize("counts", [[50, 50], [150, 99], [7]])
def test_classes_about_equally_frequent_have_no_groups(counts: list[int]) -> None:
    assert names_of(counts) == {}


def test_groups_are_judged_on_their_own_samples() -> None:
    label_N = np.array([0, 0, 0, 1, 1, 2])
    balance = measure_balance(label_N, np.array([0, 0, 1, 1, 0, 0]), label_N, np.array([200, 50, 5]))
    rows = {row.name: (row.n_classes, row.fewest, row.most, row.n_samples, row.base_top1) for row in balance.groups}
    assert rows == {
        "many": (1, 200, 200, 3, pytest.approx(2 / 3)),
        "medium": (1, 50, 50, 2, 0.5),
        "few": (1, 5, 5, 1, 0.0),
    }
    assert all(row.ensemble_top1 == 1 for row in balance.groups)
    assert balance.ensemble_balanced == balance.ensemble_macro_f1 == 1


def test_without_counts_there_are_no_groups() -> None:
    assert measure_balance(np.array([0, 1]), np.array([0, 1]), np.array([0, 0]), None).groups == ()


def test_a_group_without_test_samples_has_no_accuracy() -> None:
    balance = measure_balance(np.array([0]), np.array([0]), np.array([0]), np.array([200, 5]))
    assert balance.groups[1].n_samples == 0
    assert balance.groups[1].base_top1 == 0
    assert Balance.from_values({**vars(balance), "groups": [vars(row) for row in balance.groups]}) == balance
