"""Which job makes what, of three ways to augment few photographs; the recipe is chosen where nothing is tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeuxis.pipelines.synthesis.options import AUGMENTING, SynthesisOptions
from zeuxis.pipelines.synthesis.synthesize import synthesize
from zeuxis.pipelines.training.sources import BankSources, held_out_split
from zeuxis.storage.classes import ClassTable
from zeuxis.storage.reader import Reader
from zeuxis.synth.encoding import class_indices
from zeuxis.synth.metrics import parsing

from .jobs import Job, Results
from .segmenter import Method, Pair, tested, trained
from .sets import Scale, folded, make_bank, spaced, train_networks, training_names

ORDINARY: Method = "ordinary"
PASTE: Method = "copy-paste"
SYNTHESISED = "synthesised"
METHODS = (ORDINARY, PASTE, SYNTHESISED)
FOLD = "fold"
"""The set with which the recipe is chosen: as many photographs as the smallest, tested on others that may train."""
BOOST = {"pedestrian": 3.0, "bicyclist": 3.0}
AGREEMENT = 0.75
"""Share of an image that the judge must read as its labels say."""
STRONG = {"pedestrian": 6.0, "bicyclist": 6.0, "sign": 4.0, "pole": 2.0}


@dataclass(frozen=True)
class Images:
    """How synthesised images are made, as `SynthesisOptions` has it."""

    apart: str = "source"
    recompose: bool = False
    elision: bool = True
    boost: Mapping[str, float] = field(default_factory=dict)
    agreement: float | None = None


@dataclass(frozen=True)
class Recipe:
    """Which synthesised images are trained on, which share of all items they are, and what becomes of the others."""

    images: Sequence[str]
    mix: float = 0.5
    method: Method = ORDINARY


IMAGES = {
    "repainted": Images(),
    "repainted, no elision": Images(elision=False),
    "boosted": Images("nothing", recompose=True, boost=BOOST),
    "boosted strongly, no elision": Images(**AUGMENTING, boost=STRONG),
    "boosted strongly, no elision, judged": Images(**AUGMENTING, boost=STRONG, agreement=AGREEMENT),
}
RECIPES = {
    **{name: Recipe([name]) for name in IMAGES},
    "boosted strongly, no elision, a quarter": Recipe(["boosted strongly, no elision"], 0.25),
    "boosted strongly, no elision, three quarters": Recipe(["boosted strongly, no elision"], 0.75),
    "boosted strongly, no elision, copy-paste": Recipe(["boosted strongly, no elision"], method=PASTE),
    "both, no elision": Recipe(["boosted strongly, no elision", "repainted, no elision"]),
    "both, no elision, copy-paste": Recipe(["boosted strongly, no elision", "repainted, no elision"], method=PASTE),
}
"""What is searched through on the fold."""


class Experiment:
    """The jobs of one data set in one folder.

    Args:
        folder: of all that is made; it holds `bank`, the full one.
        scale: how much is trained; counts: by name of a set, how many photographs, None for all.
        recipes: those that are searched; where it is one, there is nothing to search.
    """

    def __init__(
        self, folder: Path, scale: Scale, counts: Mapping[str, int | None], recipes: Mapping[str, Recipe]
    ) -> None:
        self.folder, self.scale, self.counts, self.recipes = folder, scale, counts, recipes
        self.results = Results(folder / "results")
        self._pairs: dict[str, list[Pair]] = {}

    def jobs(self) -> list[Job]:
        """All, the ones that others wait for first."""
        names = training_names(Reader(self.folder / "bank"))
        jobs = self._searched(names) if len(self.recipes) > 1 else [Job("recipe", [], self._only)]
        for name, count in self.counts.items():
            jobs += self._made(name, spaced(names, count))
            jobs += [self._fit(name, method, method, seed) for method in METHODS[:2] for seed in self._seeds]
        for name in self.counts:
            jobs.append(
                Job(f"images {name}", ["recipe", f"networks {name}"], lambda name=name: self._recipe_images(name))
            )
            jobs += [self._fit(name, SYNTHESISED, None, seed) for seed in self._seeds]
        return jobs

    @property
    def _seeds(self) -> range:
        return range(self.scale.seeds)

    def _made(self, name: str, sources: Sequence[str]) -> list[Job]:
        """The bank of a set, and the networks that saw nothing else."""
        full, bank, models = self.folder / "bank", self._bank(name), self._models(name)
        return [
            Job(f"bank {name}", [], lambda: make_bank(full, sources, bank)),
            Job(f"networks {name}", [f"bank {name}"], lambda: train_networks(bank, models, self.scale)),
        ]

    def _searched(self, names: Sequence[str]) -> list[Job]:
        """Every recipe on the fold, beside its rivals; then the one that was best on average."""
        jobs = self._made(FOLD, spaced(folded(names)[0], self.scale.fold))
        kinds = dict.fromkeys(kind for recipe in self.recipes.values() for kind in recipe.images)
        jobs += [
            Job(f"images {FOLD} {kind}", [f"networks {FOLD}"], lambda kind=kind: self._images(FOLD, kind))
            for kind in kinds
        ]
        seeds = range(self.scale.search_seeds)
        fits = [self._fit(FOLD, name, name, seed) for name in (*METHODS[:2], *self.recipes) for seed in seeds]
        return [*jobs, *fits, Job("recipe", [fit.name for fit in fits], self._best)]

    def _fit(self, name: str, said: str, recipe: str | None, seed: int) -> Job:
        """A segmenter; `recipe` is a method, one of the recipes, or None for the best one."""
        needs = [f"bank {name}"]
        if recipe is None:
            needs.append(f"images {name}")
        elif recipe in self.recipes:
            needs += [f"images {name} {kind}" for kind in self.recipes[recipe].images]
        return Job(f"fit {name} {said} {seed}", needs, lambda: self._fitted(name, recipe, seed))

    def _only(self) -> dict[str, Any]:
        return {"best": next(iter(self.recipes)), "found": {}}

    def _best(self) -> dict[str, Any]:
        found = {
            recipe: float(np.mean([self.miou(FOLD, recipe, seed) for seed in range(self.scale.search_seeds)]))
            for recipe in (*METHODS[:2], *self.recipes)
        }
        return {"best": max(self.recipes, key=lambda recipe: found[recipe]), "found": found}

    def _recipe_images(self, name: str) -> dict[str, Any]:
        return {kind: self._images(name, kind) for kind in self.recipes[self.results["recipe"]["best"]].images}

    def _images(self, name: str, kind: str) -> dict[str, Any]:
        how, reader = IMAGES[kind], Reader(self._bank(name))
        layouts = reader.table("sources", columns=["source"]).num_rows
        boost = {key: factor for key, factor in how.boost.items() if reader.classes.named(key)}
        options = SynthesisOptions(
            variants=max(1, round(self.scale.images / layouts)), apart=how.apart,  # type: ignore[arg-type]
            recompose=how.recompose,
            elision=how.elision, agreement=how.agreement, boost=boost,
        )  # fmt: skip
        report = synthesize(self._bank(name), self._models(name), self._out(name, kind), None, options)
        return {"images": report.images, "rejected": report.rejected, "seconds": report.seconds}

    def _fitted(self, name: str, recipe: str | None, seed: int) -> dict[str, Any]:
        if recipe is None:
            recipe = self.results["recipe"]["best"]
        chosen = self.recipes.get(recipe)
        method = chosen.method if chosen else PASTE if recipe == PASTE else ORDINARY
        made = [pair for kind in (chosen.images if chosen else ()) for pair in self._synthesised(name, kind)]
        real = self.photographs(name)
        steps = self.scale.segmenter_steps(len(real))
        network = trained(
            real, made, chosen.mix if chosen else 0.0, method, n_classes=self.n_classes,
            width=self.scale.segmenter_width, steps=steps, seed=seed,
        )  # fmt: skip
        counts = tested(network, self.held_out(name), self.n_classes)
        return {"counts": counts.tolist(), "real": len(real), "made": len(made), "steps": steps}

    # ---- what they read

    def counts_of(self, name: str, method: str, seed: int) -> npt.NDArray[np.int64]:
        """`(n, C, C)` confusion of each tested photograph."""
        found = self.results[f"fit {name} {method} {seed}"]
        if (steps := self.scale.segmenter_steps(found["real"])) != found.get("steps"):
            said = f"{name} {method} {seed}: expected {steps} steps, found {found.get('steps')}; use another folder"
            raise ValueError(said)
        return np.array(found["counts"], np.int64)

    def miou(self, name: str, method: str, seed: int) -> float:
        """Of all tested photographs together."""
        return parsing(self.counts_of(name, method, seed).sum(axis=0)).mean_iou

    def photographs(self, name: str) -> list[Pair]:
        """Of a set."""
        return self._kept(f"train {name}", lambda: self._real(self._bank(name), "train"))

    def held_out(self, name: str) -> list[Pair]:
        """What a set is tested on: the test split, or for the fold what was held out of the training photographs."""
        full = self.folder / "bank"
        if name != FOLD:
            return self._kept("test", lambda: self._real(full, held_out_split(Reader(full))))
        return self._kept("fold", lambda: self._real(full, "train", folded(training_names(Reader(full)))[1]))

    @property
    def classes(self) -> ClassTable:
        """Of the bank."""
        return Reader(self.folder / "bank").classes

    @property
    def n_classes(self) -> int:
        """Of the bank."""
        return len(self.classes)

    def _real(self, bank: Path, split: str, names: Sequence[str] | None = None) -> list[Pair]:
        reader = Reader(bank)
        sources, channel_of = BankSources(reader, self.scale.size, split), class_indices(tuple(reader.classes))
        thing = np.array([*(entry.thing for entry in reader.classes), False])
        pairs = []
        for number in [k for k, name in enumerate(sources.names) if names is None or name in names]:
            picture = sources[number]
            labels = channel_of[picture.layout]
            pairs.append(Pair(picture.image, labels, np.where(thing[labels], picture.regions, 0).astype(np.int32)))
        return pairs

    def _synthesised(self, name: str, kind: str) -> list[Pair]:
        return self._kept(f"images {name} {kind}", lambda: self._read(self._out(name, kind)))

    def _read(self, out: Path) -> list[Pair]:
        """The samples of a folder, at their own size; labels are ids of the bank, which number its classes from 0."""
        channel_of = class_indices(tuple(self.classes))
        pairs = []
        for path in sorted((out / "images").rglob("*.png")):
            labels = np.asarray(Image.open(out / "labels" / path.relative_to(out / "images")))
            pairs.append(Pair(np.asarray(Image.open(path).convert("RGB")), channel_of[labels]))
        return pairs

    def _kept(self, key: str, make: Any) -> list[Pair]:
        if key not in self._pairs:
            self._pairs[key] = make()
        return self._pairs[key]

    def _bank(self, name: str) -> Path:
        return self.folder / f"bank-{name}"

    def _models(self, name: str) -> Path:
        return self.folder / f"models-{name}"

    def _out(self, name: str, kind: str) -> Path:
        return self.folder / f"images-{name}-{kind}".replace(" ", "-")
