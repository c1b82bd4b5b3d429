"""`zeuxis evaluate inpaint`: regions of held-out photographs filled by every method, side by side, in table and page.

Each photograph is the largest square about its middle, at the resolution of the networks, which are validated on such.
Regions are drawn as for training, of three kinds, and are the same for every system. Figures compare features of the
judge, which no loss looked at, where the folder of networks has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.reader import Reader
from ...synth.checkpoint import SUFFIX, load_card
from ...synth.encoding import to_tensor
from ...synth.inpainting.fills import FILLS
from ...synth.inpainting.liveness import dead_parameters
from ...synth.inpainting.nearest import nearest_place
from ...synth.inpainting.patch_field import patches_that_touch
from ...synth.inpainting.seam import seam
from ...synth.metrics import Features, Interval, kid, kid_gap, mean_interval
from ...synth.roi_gan.regions import Kind, Region, sample_region
from ..inpainting.methods import BANK, NETWORKS, Draw, FromNetwork, FromPicture, Method, pasted, training_sources
from ..inpainting.sliders import Parser, effect_of, mean_effect, sheet, sweep
from ..progress import Progress, Steps, silent
from ..training.completion import middle
from ..training.photographs import BankOrigin, shortened
from ..training.resume import load_marks
from ..written import EVALUATION, check_files, write_evaluation
from .inpaint_measures import Measure, around, head_of, slider_correlations
from .inpaint_report import build_report, table_of
from .inpaint_results import Anatomy, Filled, FilledSystem, Gap, InpaintEvaluation
from .making import Arrays, Making

REAL = "photographs"
KINDS: tuple[Kind, ...] = ("ellipse", "rectangle", "level-set")
"""Of regions: the thesis' elliptic, rectangular and mixed ones."""
LEAST, MOST = 0.02, 0.5
"""Shares of a picture that a region takes up; others are drawn again, so that every method has what it needs."""
PHOTOGRAPHS, FEWEST = 200, 4
"""That are filled, at most and at least."""
REGIONS = 3
"""Of each kind, each photograph: intervals are over photographs, and narrower with more than one."""
VARIANTS, VARIED = 3, 20
"""Pictures of each of so many photographs, evenly spaced, that show how a method's variants differ, or what its sliders
do."""
DRAWS = 4
"""Of the sliders, each photograph, for the correlation with what is read of them."""
RESOLUTION = 64
"""Side of the pictures where there is no network that says it."""
SAID = {
    "roi": "RoI-GAN, repaired",
    "roi-published": "RoI-GAN as its code runs",
    "glcic": "global and local discriminators (Iizuka et al. 2017)",
    "telea": "fast marching",
    "navier-stokes": "lines of equal brightness continued",
    "patchmatch": "patches from around it",
    "rows": "each row between the pixels at its two ends",
    BANK: "the likest place of a training photograph",
}


def evaluate_inpaint(
    bank: str | Path,
    models: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    photographs: int = PHOTOGRAPHS,
    seed: int = 0,
    systems: Sequence[str] = (),
    progress: Progress = silent,
) -> InpaintEvaluation:
    """Measures every method for which there is a network, and writes table, figures and a page to look at.

    Args:
        bank: it must hold held-out sources, of split `test` or `val`; models: folder of networks.
        out: folder for `report.html`, `evaluation.json` and `table.md`.
        split: whose photographs; default `test`, else `val`. photographs: how many, at most, evenly spaced.
        seed: of regions, noise and sliders; systems: names of those to measure, default all.
        progress: told of every picture.

    Raises:
        InputError: no held-out sources, neither judge nor features, no such system, or `out` cannot be written; before
            anything is.
    """
    folder, reader = Path(models).expanduser(), Reader(bank)
    out = _checked(out, systems, photographs, seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measure = Measure(folder, device)
    found, side, left_out = _networks(folder, systems)
    held = _held_out(reader, split, photographs, side, seed)
    fillers: dict[str, Method] = {**found, **{name: FromPicture(name) for name in FILLS}}
    if not systems or BANK in systems:
        training = [shortened(reader.photograph(name), side) for name in training_sources(reader, None)]
        fillers[BANK] = _Nearest(training)
    chosen = {name: each for name, each in fillers.items() if not systems or name in systems}
    steps = Steps(progress, len(chosen) * len(KINDS) * len(held.photographs))
    judge = Parser(folder, device) if measure.independent else None
    truth = {kind: measure.vectors(held.around(kind, held.photographs)) for kind in KINDS}
    options = {"split": held.split, "photographs": photographs, "seed": seed, "side": side, "regions": REGIONS}
    making = Making(out, reader, [folder], options)
    measured, first = [_real(held, truth)], dict[Kind, _Seen]()
    for name, filler in chosen.items():
        anatomy = _anatomy(folder, filler, held, measure, judge, seed) if isinstance(filler, FromNetwork) else None
        measured.append(_measured(name, filler, held, truth, measure, seed, steps, anatomy, first, making))
    drawn = next((each for each in found.values() if each.sliders), None)
    about = _about(reader, folder, held, measure, seed, side)
    result = InpaintEvaluation(
        measured, held.names, held.regions, judge.names if judge else (), about, left_out,
        None if drawn is None else _sheet(drawn, held, seed),
    )  # fmt: skip
    files = write_evaluation(out, result.to_json(), table_of(result), build_report(result))
    making.done()
    return replace(result, files=files)


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Photographs at the size of the networks, and regions of each by kind.

    Attributes:
        names: of the photographs, `(n,)`; photographs: `(n REGIONS,)`, each once a region; regions: by kind,
            `(n REGIONS,)`.
    """

    split: str
    names: Sequence[str]
    photographs: Sequence[Photograph]
    regions: Mapping[Kind, Sequence[Region]]

    def spaced(self, most: int) -> list[int]:
        """Numbers of the first regions of some photographs, evenly spaced over all of them."""
        n = len(self.names)
        return [REGIONS * int(each) for each in np.linspace(0, n - 1, min(most, n)).round()]

    def pooled(self, numbers: Sequence[int]) -> list[tuple[Photograph, Region]]:
        """Photographs by their number, each with its region of every kind that has this number."""
        return [(self.photographs[i], regions[i]) for regions in self.regions.values() for i in numbers]

    def around(self, kind: Kind, pictures: Sequence[Photograph]) -> list[Photograph]:
        """What surrounds the regions of pictures, with them."""
        return [around(*each) for each in zip(pictures, self.regions[kind], strict=True)]


class _Seen(NamedTuple):
    """What was measured of each picture of a system: features of what surrounds its region, distance inside."""

    vectors: Features
    distances: list[float]


class _Nearest:
    """As `FromBank` by the likest place, among photographs that are held at the size of the networks."""

    name, identity, varies, sliders, warnings = BANK, dict[str, Any](), False, 0, ()

    def __init__(self, photographs: Sequence[Photograph]) -> None:
        self.photographs = photographs

    def __call__(self, image: Photograph, region: Region, draw: Draw) -> tuple[Photograph, str]:
        """See `Method`."""
        place = nearest_place(image, region, self.photographs)
        assert place is not None, "every photograph holds a square of the networks' size"
        top, left, bottom, right = place.box
        return pasted(image, region, self.photographs[place.number][top:bottom, left:right]), ""


def _checked(out: str | Path, systems: Sequence[str], photographs: int, seed: int) -> Path:
    if strange := sorted(set(systems) - set(SAID)):
        expected = f"some of {', '.join(SAID)}"
        raise InputError(sentence("systems", expected=expected, found=", ".join(map(repr, strange))))
    if photographs < FEWEST:
        raise InputError(sentence("photographs (--layouts)", expected=f"at least {FEWEST}", found=str(photographs)))
    if seed < 0:
        raise InputError(sentence("seed", expected="a whole number of at least 0", found=str(seed)))
    return check_files(out, EVALUATION)


def _networks(folder: Path, systems: Sequence[str]) -> tuple[dict[str, FromNetwork], int, list[str]]:
    """Those of the folder that are wanted, of one size; that size; and a sentence for each that is left out."""
    found: dict[str, FromNetwork] = {}
    side, left_out = 0, []
    for name in [name for name in NETWORKS if not systems or name in systems]:
        path = folder / f"{name}{SUFFIX}"
        if not path.exists():
            left_out.append(f"{name}: left out, there is no {path.name} in {folder}")
            continue
        own = load_card(path).size
        if side and own != (side, side):
            said = "{}x{}, the others at {}x{}".format(*own, side, side)
            left_out.append(f"{name}: left out, its network was trained at {said}")
            continue
        found[name], side = FromNetwork(folder, name), own[0]
    return found, side or RESOLUTION, left_out


def _held_out(reader: Reader, split: str | None, most: int, side: int, seed: int) -> _HeldOut:
    origin = BankOrigin(reader)
    chosen = split or ("test" if origin.names("test") else "val")
    names = origin.names(chosen)
    if chosen == "train" or len(names) < FEWEST:
        expected = f"at least {FEWEST} held-out sources (split test or val)"
        raise InputError(sentence(reader.path, expected=expected, found=f"{len(names)} in {chosen}"))
    names = [names[i] for i in np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)]
    size = (side, side)
    regions = {
        kind: [
            _region(kind, size, np.random.default_rng([seed, number, i, again]))
            for i in range(len(names))
            for again in range(REGIONS)
        ]
        for number, kind in enumerate(KINDS)
    }
    photographs = [middle(origin.read(name), size) for name in names]
    return _HeldOut(chosen, names, [each for each in photographs for _ in range(REGIONS)], regions)


def _region(kind: Kind, size: tuple[int, int], random: np.random.Generator) -> Region:
    while True:
        region = sample_region(kind, size, random)
        if LEAST <= region.mean() <= MOST and not patches_that_touch(region).all():
            return region


def _measured(
    name: str,
    filler: Method,
    held: _HeldOut,
    truth: Mapping[Kind, Features],
    measure: Measure,
    seed: int,
    steps: Callable[[str], None],
    anatomy: Anatomy | None,
    first: dict[Kind, _Seen],
    making: Making,
) -> FilledSystem:
    """A system on every kind of region; what was seen of the first one is kept in `first`.

    What it made of one half of the photographs is compared with the other half: outside its region a filled picture is
    its own photograph, which would draw the two distributions together.
    """
    figures: dict[Kind, Filled] = {}
    gaps: dict[Kind, Gap] = {}
    pictures: dict[Kind, list[Photograph]] = {}
    for kind in KINDS:
        made, seconds = [], []
        for number, (photograph, region) in enumerate(zip(held.photographs, held.regions[kind], strict=True)):
            filled = making([name, kind, number], partial(_filled, filler, photograph, region, Draw(seed, number)))
            made.append(filled["picture"])
            seconds.append(float(filled["seconds"]))
            steps(name)
        regions = held.regions[kind]
        pictures[kind] = made
        seen = _Seen(measure.vectors(held.around(kind, made)), measure.distances(made, held.photographs, regions))
        if kind in first:
            gaps[kind] = _gap(truth[kind], seen, first[kind])
        first.setdefault(kind, seen)
        figures[kind] = Filled(
            _kid(truth[kind], seen.vectors),
            _mean(seen.distances),
            _mean([seam(*each) for each in zip(made, regions, strict=True)]),
            _diversity(filler, held, kind, measure, seed) if filler.varies else None,
            1 / float(np.median(seconds)),
        )
    return FilledSystem(name, SAID[name], figures, pictures, anatomy, gaps)


def _filled(filler: Method, photograph: Photograph, region: Region, draw: Draw) -> Arrays:
    start = perf_counter()
    picture, _ = filler(photograph, region, draw)
    return {"picture": picture, "seconds": np.array(perf_counter() - start)}


def _gap(truth: Features, seen: _Seen, first: _Seen) -> Gap:
    apart = (np.array(seen.distances) - np.array(first.distances)).tolist()
    return Gap(_mean(apart), kid_gap(truth, [seen.vectors], [first.vectors], per=REGIONS))


def _mean(values: Sequence[float]) -> Interval:
    """Of all regions, the interval over photographs."""
    return mean_interval(np.reshape(values, (-1, REGIONS)).mean(1).tolist())


def _kid(real: Features, made: Features) -> Interval:
    """Of what was made of every second photograph to the others as they are."""
    rows = np.arange(len(real)) // REGIONS % 2
    return kid(real[rows == 0], made[rows == 1], per=REGIONS)


def _diversity(
    filler: Method, held: _HeldOut, kind: Kind, measure: Measure, seed: int, sliders: tuple[float, ...] | None = None
) -> Interval:
    """Distances inside the region between variants of one photograph, mean over pairs, then over photographs."""
    spreads = []
    for number in held.spaced(VARIED):
        photograph, region = held.photographs[number], held.regions[kind][number]
        variants = [
            filler(photograph, region, Draw(seed + 1, VARIANTS * number + i, sliders))[0] for i in range(VARIANTS)
        ]
        pairs = [(a, b) for i, a in enumerate(variants) for b in variants[i + 1 :]]
        first, second = ([pair[i] for pair in pairs] for i in (0, 1))
        spreads.append(float(np.mean(measure.distances(first, second, [region] * len(pairs)))))
    return mean_interval(spreads)


def _real(held: _HeldOut, truth: Mapping[Kind, Features]) -> FilledSystem:
    """The photographs themselves; their KID is what chance alone gives."""
    figures = {
        kind: Filled(
            _kid(truth[kind], truth[kind]),
            None,
            _mean([seam(*each) for each in zip(held.photographs, held.regions[kind], strict=True)]),
        )
        for kind in KINDS
    }
    return FilledSystem(REAL, "nothing filled", figures, dict.fromkeys(KINDS, held.photographs))


def _steered(filler: FromNetwork, held: _HeldOut, measure: Measure, seed: int) -> dict[Kind, float]:
    """Mean distances with sliders that are drawn: other settings than 0 take a picture further away."""
    found: dict[Kind, float] = {}
    for kind, regions in held.regions.items():
        shown = enumerate(zip(held.photographs, regions, strict=True))
        made = [filler(*each, Draw(seed, number, None))[0] for number, each in shown]
        found[kind] = float(np.mean(measure.distances(made, held.photographs, regions)))
    return found


def _anatomy(
    folder: Path, filler: FromNetwork, held: _HeldOut, measure: Measure, judge: Parser | None, seed: int
) -> Anatomy:
    """What a network has, and what its sliders do, on all kinds of region together."""
    shown = held.pooled(held.spaced(VARIED))
    ends = [sweep(filler, *each, Draw(seed, number), 2) for number, each in enumerate(shown)]
    effects = [
        mean_effect(
            [
                effect_of(rows[slider][0], rows[slider][-1], region, judge)
                for rows, (_, region) in zip(ends, shown, strict=True)
            ]
        )
        for slider in range(filler.sliders)
    ]
    images, regions = zip(*held.pooled(range(0, len(held.photographs), REGIONS)), strict=True)
    found = slider_correlations(folder, filler, images, regions, seed, DRAWS)
    image = to_tensor(images[0])[None].to(filler.device)  # in a flat picture all copies are alike
    inside = torch.from_numpy(regions[0])[None, None].float().to(filler.device)
    dead = dead_parameters(filler.network, (image, inside, *filler.drawn(Draw(seed, 0, None))))
    held_numbers = sum(each.numel() for each in filler.network.parameters())
    path = head_of(folder, filler.name)
    marks = None if found is None or path is None else load_marks(path)
    steps = None if marks is None else (filler.card.step, marks.step)
    steered = _steered(filler, held, measure, seed) if filler.sliders else {}
    read = None if found is None else found.tolist()
    noise = {kind: _diversity(filler, held, kind, measure, seed, ()).value for kind in KINDS} if filler.sliders else {}
    return Anatomy(held_numbers, dead, read, effects, steps, steered, noise, len(shown) // len(KINDS))


def _sheet(filler: FromNetwork, held: _HeldOut, seed: int) -> Photograph:
    image, region = held.photographs[0], held.regions[KINDS[0]][0]
    return sheet(image, region, sweep(filler, image, region, Draw(seed, 0)))


def _about(reader: Reader, folder: Path, held: _HeldOut, measure: Measure, seed: int, side: int) -> dict[str, Any]:
    cards = {path.stem: load_card(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}
    networks = {
        name: {"network": card.network, "step": card.step, "size": list(card.size), "features": card.features,
               "seed": card.training.get("seed"), "bank": card.bank}
        for name, card in cards.items()
    }  # fmt: skip
    return {
        "bank": reader.path.name, "generation": reader.manifest.generation, "split": held.split,
        "photographs": len(held.names), "regions": REGIONS, "size": [side, side], "seed": seed,
        "measured with": measure.name,
        "independent": measure.independent, "networks": networks,
    }  # fmt: skip
