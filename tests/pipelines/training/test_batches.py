"""Batches that other processes prepare."""

import multiprocessing
import time

import pytest
from torch.utils.data import Dataset

from zeuxis.pipelines.training.batches import Place, batches
from zeuxis.pipelines.training.options import TrainOptions


class Failing(Dataset):
    def __getitem__(self, k):
        raise ValueError("no such photograph")


def test_a_batch_that_fails_ends_the_workers_that_are_deaf_to_signals():
    loaded = batches(Failing(), TrainOptions(batch=1, workers=2), 0, Place())
    with pytest.raises(ValueError, match="no such photograph"):
        next(loaded)
    until = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.1)
    assert not multiprocessing.active_children()
