import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from coterie.partition import PartitionRequest, make_partition
from coterie.partition.parallel import each_in_threads, in_threads, one_blas_thread, spans


@pytest.mark.parametrize("method", ["spectral", "kmeans", "balanced", "ward"])
@pytest.mark.parametrize("n_classes", [120, 700])
def test_a_partition_does_not_depend_on_the_threads_of_the_blas(method: str, n_classes: int) -> None:
    # Without any structure, last bits decide.
    vectors_CD = np.random.default_rng(n_classes).normal(size=(n_classes, 256))
    found = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(n_threads, user_api="blas"):
            found.append(make_partition(PartitionRequest(method, 9), vectors_CD).cluster_of_class_C.tolist())
    assert found[0] == found[1] == found[2]


@given(st.integers(0, 200), st.integers(1, 20))
def test_spans_cover_everything_once_in_nearly_equal_parts(n: int, parts: int) -> None:
    found = spans(n, parts)
    assert [k for part in found for k in range(part.start, part.stop)] == list(range(n))
    assert len(found) <= parts
    sizes = [part.stop - part.start for part in found]
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_results_come_in_the_order_of_the_items() -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (5 - item))  # the first item is the last to be done
        return item**2

    assert list(in_threads(work, range(5))) == [0, 1, 4, 9, 16]


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    done = []

    def work(item: int) -> None:
        done.append(1 // item)

    with pytest.raises(ZeroDivisionError):
        each_in_threads(work, [1, 0, 2])
    assert 1 in done


def test_products_run_on_one_thread_inside_and_on_as_many_as_before_after() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_blas_thread():
            assert threads() <= {1}
        assert threads() == before
