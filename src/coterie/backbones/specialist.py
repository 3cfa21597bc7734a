"""One specialist per cluster: the base's architecture, its weights, and its head cut to the cluster's classes."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from coterie.arrays import IntArray
from coterie.backbones import Head, replace_head
from coterie.backbones.cut import tail_of


def make_specialist(base: nn.Module, head: Head, classes: IntArray) -> nn.Module:
    """A copy of the base whose head has the rows of ``classes`` only, in that order.

    Before training it is the base restricted to those classes.
    """
    specialist = copy.deepcopy(base)
    replace_head(specialist, head, torch.from_numpy(np.ascontiguousarray(classes)))
    return specialist


def as_asked(specialist: nn.Module, cut: str | None, example: Tensor) -> nn.Module:
    """A specialist as an ensemble holds it: its tail where there is a trunk to share, else whole."""
    # In evaluation mode first, since a tail is traced in the mode in which it runs.
    return specialist if cut is None else tail_of(specialist.eval(), cut, example)
