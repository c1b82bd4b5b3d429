"""The experiments on assembled pictures (Lee et al. 2018, table 1), each a table with intervals and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...storage.errors import InputError, sentence
from ...synth.metrics import Interval
from ..assembling.network import KIND, SYSTEMS, Made, degraded
from ..assembling.sheet import annotated, enlarged, tiled
from ..training.patch_pictures import mask_of
from .key_patches_bench import (
    SHOWN,
    Bench,
    Figures,
    hits,
    order_difference,
    overlap,
    placed,
    samples,
    strip,
)
from .key_patches_held import HeldOut, gap_of, kid_of
from .key_patches_probe import features
from .key_patches_results import Column, Experiment, Row

IOU = Column("mask IoU", "predicted mask with the true one; chance is the mean mask of training pictures")
MEAN = Column("mean mask", "the same of the mean mask of training pictures with as many patches")
APPEARANCE = Column(
    "appearance", "how far the photograph is from itself with what was made inside the true mask, there, in features; "
    "chance is the mean training picture"
)  # fmt: skip
KID = Column(
    "KID", "kernel distance to other photographs, times 1,000; the photographs' own row says what chance gives", ".1f"
)
GAP = Column("gap", "its KID less that of the first system, paired by picture; above 0 it is worse", ".1f")
ORDER = Column("order", "largest change of any pixel by another order of the patches, levels of 0..255", ".3f")
PLACED = Column("placed", "share of patches found where they were cut out (IoU above 0.5); chance is another's places")
COLUMNS = (IOU, APPEARANCE, KID, GAP, ORDER, PLACED)
REAL, CHANCE, ANOTHER = "photographs", "chance", "another photograph"
RIVALS = ("plain-gan", "no-mask", "auto-encoder", "conditional-gan")
NUMBERS = (1, 2, 3, 4, 5)
LEVELS = (0, 10, 20, 40, 80)
"""Standard deviations of noise, levels of 0..255."""
ROWS_OF_SAMPLES = "photograph with its patches' places, the patches, then with mask outlined and patches placed: "


def goals(bench: Bench) -> Experiment:
    """Every system that is there, on key patches."""
    return _compared(bench, "goals", "How well is a whole picture made of key patches?", list(SYSTEMS), bench.held())


def key(bench: Bench) -> Experiment:
    """Key patches, for networks that were trained on them, on random ones, and on both."""
    said = "Does it matter that key patches were trained on?"
    return _compared(bench, "key", said, [KIND, f"{KIND}-key", f"{KIND}-random"], bench.held())


def random(bench: Bench) -> Experiment:
    """Random patches, for the same."""
    said = "What becomes of patches from anywhere?"
    return _compared(bench, "random", said, [KIND, f"{KIND}-key", f"{KIND}-random"], bench.held("random"))


def objective(bench: Bench) -> Experiment:
    """The paper's objective beside that of a plain GAN."""
    said = "Do composites of real and made pictures help the discriminator?"
    return _compared(bench, "objective", said, [KIND, f"{KIND}-plain-gan"], bench.held())


def structure(bench: Bench) -> Experiment:
    """Other structures of the network."""
    said = "What does the structure of the network give?"
    names = [KIND, *(f"{KIND}-{each}" for each in RIVALS[1:])]
    return _compared(bench, "structure", said, names, bench.held())


def number(bench: Bench) -> Experiment:
    """From one patch to five."""
    first, held = bench.first, bench.held(n=max(NUMBERS))
    rows, shown = [], []
    for count in NUMBERS:
        found = bench.figures(first, held, [each[:count] for each in held.sets], count)
        mean = bench.mean_mask(held.patches, held.n, count)
        masks = [mask_of(each.boxes[:count], first.resolution) for each in held.pictures]
        told = _figures(found, held) | {MEAN.head: held.mean([overlap(mean, mask) for mask in masks])}
        rows.append(Row(str(count), "patches" if count > 1 else "patch", told))
        shown.append(found)
    fewer = sum(len(each.patches) < max(NUMBERS) for each in held.pictures)
    notes = [f"{fewer} of {len(held.pictures)} pictures have fewer than {max(NUMBERS)} key patches, and give all."]
    notes.append(f"{first.name} was trained with {first.parts} at most.")
    caption = ROWS_OF_SAMPLES + f"{first.name} with {', '.join(map(str, NUMBERS))} of the patches"
    columns = (IOU, MEAN, APPEARANCE, KID, PLACED)
    said = "How many patches are needed?"
    return Experiment("number", said, columns, rows, samples(held, shown), caption, notes)


def degrading(bench: Bench) -> Experiment:
    """Patches with noise."""
    first, held = bench.first, bench.held()
    rows, shown = [], []
    for level in LEVELS:
        sets = [degraded(each, level, bench.seed + at) for at, each in enumerate(held.sets)]
        found = bench.figures(first, held, sets)
        rows.append(Row(str(level), "levels of noise", _figures(found, held)))
        shown.append(found)
    caption = ROWS_OF_SAMPLES + f"{first.name} with noise of {', '.join(map(str, LEVELS))} levels on the patches"
    columns = (IOU, APPEARANCE, KID, PLACED)
    said = "How much noise on the patches does it bear?"
    return Experiment("degraded", said, columns, rows, samples(held, shown), caption)


def combination(bench: Bench) -> Experiment:
    """Patches of two pictures in one: the best ones of the one, and of the other the best."""
    first, held = bench.first, bench.held()
    images, sets, mates = held.images, held.sets, held.partners
    mixed = [[*each[: max(1, first.parts - 1)], sets[mate][0]] for each, mate in zip(sets, mates, strict=True)]
    others = [images[mate] for mate in mates]
    together, alone = bench.made(first, mixed), bench.made(first, sets)
    whole = [np.ones(image.shape[:2], bool) for image in images]
    columns = (
        Column("to the one", "distance to the picture that gave all patches but one, in features"),
        Column("to the other", "distance to the picture that gave one patch"),
        KID,
    )

    def told(made: Sequence[Made]) -> dict[str, Interval | float]:
        pictures = [each.image for each in made]
        return {
            "to the one": held.mean(bench.measure.distances(pictures, images, whole)),
            "to the other": held.mean(bench.measure.distances(pictures, others, whole)),
            "KID": kid_of(held, bench.measure.vectors(pictures)),
        }

    apart = held.mean(bench.measure.distances(images, others, whole))
    rows = [
        Row("of both", "patches of two pictures", told(together)),
        Row("of the one", "patches of one picture", told(alone)),
        Row(REAL, "the two themselves", {"to the other": apart, "KID": kid_of(held, held.truth)}),
    ]
    chosen = range(min(SHOWN, len(sets)))
    shown = [
        annotated(together[k].image, together[k].mask, placed(first, together[k], mixed[k]), cut=first.cut)
        for k in chosen
    ]
    given = [strip(mixed[k], len(images[k])) for k in chosen]
    picture = tiled([[enlarged(images[k]) for k in chosen], [enlarged(others[k]) for k in chosen], given, shown])
    caption = "the one, the other (of which is the last patch), the patches, and what is made of them"
    said = "What becomes of patches of two pictures?"
    return Experiment("combination", said, columns, rows, picture, caption)


EXPERIMENTS: Mapping[str, Callable[[Bench], Experiment]] = {
    "goals": goals,
    "key": key,
    "random": random,
    "combination": combination,
    "features": features,
    "objective": objective,
    "structure": structure,
    "number": number,
    "degraded": degrading,
}
"""By the name that users say, in the order of the paper's table."""


def chosen_experiments(names: Sequence[str]) -> list[str]:
    """Names of experiments, each once; `goals` where none is named, all of them for `all`.

    Raises:
        InputError: there is none of that name.
    """
    if strange := [name for name in names if name not in (*EXPERIMENTS, "all")]:
        expected = f"some of {', '.join(EXPERIMENTS)}, or all"
        raise InputError(sentence("--experiment", expected=expected, found=", ".join(map(repr, strange))))
    return list(EXPERIMENTS) if "all" in names else list(dict.fromkeys(names or ["goals"]))


def _compared(bench: Bench, name: str, said: str, names: Sequence[str], held: HeldOut) -> Experiment:
    """Systems on the same patches, with what photographs and chance give."""
    some = bench.some(names, name)
    found = {system: bench.figures(each, held) for system, each in some.items()}
    first = next(iter(found))
    rows = _bounds(bench, held)
    for system, each in found.items():
        told = _figures(each, held)
        if system != first:
            told["gap"] = gap_of(held, each.vectors, found[first].vectors)
        told["order"] = order_difference(some[system], held.sets, bench.seed)
        rows.append(Row(system, SYSTEMS[system], told))
    absent = [system for system in names if system not in some]
    notes = [f"Not there, and left out: {', '.join(absent)}."] if absent else []
    caption = ROWS_OF_SAMPLES + ", ".join(found)
    picture = samples(held, [*found.values()])
    return Experiment(name, said, COLUMNS, rows, picture, caption, notes)


def _figures(found: Figures, held: HeldOut) -> dict[str, Interval | float]:
    told: dict[str, Interval | float] = {
        "appearance": held.mean(found.appearance),
        "KID": kid_of(held, found.vectors),
        "placed": held.mean(found.found),
    }
    return told | ({"mask IoU": held.mean(found.iou)} if len(found.iou) else {})


def _bounds(bench: Bench, held: HeldOut) -> list[Row]:
    """The photographs themselves, and what says nothing of the patches."""
    masks, pictures, mates = held.masks, held.pictures, held.mates
    mean = bench.mean_mask(held.patches, held.n)
    real = [Made(each.image, mask.astype(np.float32)) for each, mask in zip(pictures, masks, strict=True)]
    own = [
        hits(np.array(placed(bench.first, each, list(known.patches))), known.boxes)
        for each, known in zip(real, pictures, strict=True)
    ]
    by_chance = [hits(*_as_many(each.boxes, pictures[mate].boxes)) for each, mate in zip(pictures, mates, strict=True)]
    others = [pictures[mate].image for mate in mates]
    picture = [bench.mean_picture(held.patches, held.n)] * len(pictures)
    return [
        Row(REAL, "by their true masks", {"KID": kid_of(held, held.truth), "placed": held.mean(own)}),
        Row(
            CHANCE,
            "the mean mask and the mean picture of training, places of another photograph",
            {
                "mask IoU": held.mean([overlap(mean, mask) for mask in masks]),
                "appearance": held.mean(bench.apart(picture, held, masks)),
                "placed": held.mean(by_chance),
            },
        ),
        Row(ANOTHER, "in place of this one", {"appearance": held.mean(bench.apart(others, held, masks))}),
    ]


def _as_many(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of two pictures, as many of the one as of the other."""
    count = min(len(boxes), len(others))
    return boxes[:count], others[:count]
