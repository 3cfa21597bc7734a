"""How the threads of OpenMP, by which torch computes on CPUs, wait for one another."""

from __future__ import annotations

import os

# Whoever set one of these has chosen.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_without_spinning() -> None:
    """Have OpenMP's threads sleep where they wait for one another, from the time when torch is imported.

    By default they spin, on cores that other processes could use, among them those that the awaited threads need:
    beside two busy processes on two cores, training takes two to four times as long.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
