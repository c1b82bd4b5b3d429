"""Layouts as tensors: one channel a class, void the last."""

import pytest
import torch

from zeuxis.synth.encoding import one_hot


def test_each_pixel_is_one_in_the_channel_of_its_class_alone():
    indices = torch.randint(0, 4, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    found = one_hot(indices, 3)
    assert found.dtype == torch.float32
    assert found.shape == (2, 4, 5, 7)
    assert torch.equal(found.argmax(dim=1), indices)
    assert torch.equal(found.sum(dim=1), torch.ones(2, 5, 7))
    assert found.is_contiguous()


@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_channel_that_is_not_there_is_an_error(wrong):
    with pytest.raises(RuntimeError, match="out of bounds"):
        one_hot(torch.full((1, 2, 2), wrong), 3)
