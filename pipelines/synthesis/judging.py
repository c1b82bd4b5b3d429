"""How well a picture agrees with the layout that it was painted for, as a network reads it that did not paint it."""

from __future__ import annotations

import numpy as np

from ...storage.classes import Layout
from ...storage.images import Photograph
from ...synth.encoding import to_tensor
from ...synth.turns import in_turn
from ..models import Model


def agreement(judge: Model, image: Photograph, layout: Layout) -> float:
    """The share of known pixels that a judge reads as the class they were painted as: pixel accuracy, 0 to 1.

    Args:
        judge: a network that parses photographs; image: `(H, W, 3)` uint8 RGB.
        layout: `(H, W)` in the bank's ids. Void, and classes that the judge does not know, are not known; a layout of
            nothing else is agreed with.
    """
    device = next(judge.network.parameters()).device
    with in_turn(device):
        read = judge.network(to_tensor(image)[None].to(device))[0].argmax(dim=0).cpu().numpy()
    wanted = judge.channel_of[layout]
    known = wanted < judge.n_classes
    return float(np.mean(read[known] == wanted[known])) if known.any() else 1.0
