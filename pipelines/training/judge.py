"""Training the judge: a parser for the evaluation alone, of another build than the features and on other items."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...storage.reader import Reader
from ...synth.judge import JudgeConfig, JudgeNetwork
from ..progress import Progress, silent
from .options import TrainOptions
from .parsing import ParsingTask

SEED_SHIFT = 104_729
"""So that judge and features never see the same items, whatever their seeds."""


class JudgeTask(ParsingTask):
    """The judge."""

    def net(self) -> nn.Module:
        """As wide as the preset says."""
        return JudgeNetwork(JudgeConfig(self.n_classes, self.options.width, fine=True))


def make_task(reader: Reader, models: Path, options: TrainOptions, progress: Progress = silent) -> JudgeTask:
    """The task as `zeuxis train judge` trains it.

    Raises:
        NothingToLearn: the bank has no labelled sources in its training split.
    """
    return JudgeTask("judge", reader, models, options, progress, seed_shift=SEED_SHIFT)
