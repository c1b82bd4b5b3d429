"""Training the features of the perceptual loss: a narrow VGG-19 that learns to parse the bank's photographs."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...storage.reader import Reader
from ...synth.features import NETWORK, ParsingConfig, ParsingNetwork
from ..progress import Progress, silent
from .options import TrainOptions
from .parsing import ParsingTask


class FeaturesTask(ParsingTask):
    """The parsing network whose features the losses compare."""

    def net(self) -> nn.Module:
        """As wide as the preset says; features normalised, without which so deep a network does not learn."""
        return ParsingNetwork(ParsingConfig(self.n_classes, self.options.width))


def make_task(reader: Reader, models: Path, options: TrainOptions, progress: Progress = silent) -> FeaturesTask:
    """The task as `zeuxis train features` trains it.

    Raises:
        NothingToLearn: the bank has no labelled sources in its training split.
    """
    return FeaturesTask(NETWORK, reader, models, options, progress)
