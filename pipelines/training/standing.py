"""How far the training of a network is: where its files lie, whether it is done, or goes on with these settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...storage.errors import InputError, sentence
from ...synth.checkpoint import SUFFIX, is_whole, load_card
from .canvas_settings import departures
from .options import TrainOptions, devices_of
from .resume import Marks, load_marks, refuse_other_settings
from .task import Task


@dataclass(frozen=True)
class Paths:
    """The files of one network's training.

    Attributes:
        models: the folder of networks; name: of the network's files.
    """

    models: Path
    name: str

    @property
    def checkpoint(self) -> Path:
        """The network."""
        return self.models / f"{self.name}{SUFFIX}"

    @property
    def resume(self) -> Path:
        """What its training goes on from."""
        return self.models / "resume" / f"{self.name}{SUFFIX}"

    @property
    def along(self) -> Path:
        """What was kept along with the network that is no part of it, such as the head that reads its sliders."""
        return self.models / "resume" / f"{self.name}-along{SUFFIX}"

    @property
    def logs(self) -> Path:
        """The folder of what people look at."""
        return self.models / "logs" / self.name


def settings_of(task: Task, options: TrainOptions) -> dict[str, Any]:
    """What decides the losses of a training, JSON-able: other ones are another training.

    How many steps are taken, how often is logged and validated, and what prepares the batches do not; but where more
    steps are asked for, generators, whose rate falls to the last step, learn faster again, and key patches, whose
    weights of the loss, squares and random patches go by the share of the steps, go back to an earlier share, as GLCIC
    does, whose phases go by it.
    """
    subject = task.subject
    settings = {
        "bank": subject.bank,
        "bank content": subject.content,
        "classes": [entry.name for entry in subject.classes],
        "size": subject.size,
        "features": task.features,
        "devices": devices_of(options)[1],
        **{name: getattr(options, name) for name in _OPTIONS},
        "ema": options.decay,
        **{name: getattr(options, name) or None for name in _CHOICES},
        "canvas": departures(options.canvas, options.width) if task.network == "synthesis" else None,
        "other loss weights": getattr(task, "other_weights", None) or None,
        "chosen on": "train" if subject.apart else None,
        "config": {name: value for name, value in task.config().items() if _LATER.get(name, ...) != value},
        "revision": getattr(task, "revision", None),
        "coarse bank": getattr(task, "coarse_bank", None),
        "from": _beginning(options.start),
    }
    held: dict[str, Any] = json.loads(json.dumps(settings))
    return held


_OPTIONS = ("preset", "batch", "seed", "lr", "precision", "accumulate", "adversarial", "calibrate_after")

_CHOICES = (
    "regions", "penalty", "augment", "objects", "parts", "patches", "objective", "ratio", "critic_steps", "vivid"
)  # fmt: skip
"""None where they were not made, as in trainings of before there were any."""

_LATER = {"blend": 0.0, "copies": False, "tints": False, "grain": 0.0}
"""Of a network's configuration, what it lacked once, and the value that means the same."""


def _beginning(path: str | None) -> str | None:
    """What is said of the checkpoint that a training began with."""
    if path is None:
        return None
    card = load_card(Path(path))
    rows, cols = card.size
    return f"{card.network} {rows}x{cols} step {card.step} of {card.bank}"


def _as_named(before: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of before with the features as they are called today: once neither bank nor digest was in their name."""
    today = settings.get("features")
    if isinstance(today, str) and before.get("features") == today.partition(" (")[0]:
        return {**before, "features": today}
    return before


def standing(paths: Paths, settings: Mapping[str, Any], steps: int) -> Marks | None:
    """How far the training is; None where none has begun. Writes nothing.

    A checkpoint whose resume state was removed is done where it was trained for so many steps.

    Raises:
        InputError: it was trained under other settings, cannot go on, or its files are damaged.
    """
    if (marks := load_marks(paths.resume)) is not None:
        refuse_other_settings(paths.resume, _as_named(marks.settings, settings), settings)
        return marks
    if not is_whole(paths.checkpoint):
        return None
    training = load_card(paths.checkpoint).training
    before = {name: training.get(name) for name in settings}
    refuse_other_settings(paths.checkpoint, _as_named(before, settings), settings)
    if not {"steps", "best"} <= set(training):
        said = "does not say how far it was trained"
        raise InputError(sentence(paths.checkpoint, said, fix="train anew with --restart"))
    if training.get("steps", 0) < steps:
        found = f"{training.get('steps', 0):,}, and no {paths.resume} to go on from"
        raise InputError(
            sentence(paths.checkpoint, expected=f"{steps:,} steps", found=found, fix="train anew with --restart")
        )
    return Marks(settings, training["steps"], best=training["best"])
