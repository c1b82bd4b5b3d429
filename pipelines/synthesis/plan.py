"""The plan of a run: what every image will be, before the first of them is made; the file that a resumed run obeys."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...storage.classes import ClassTable
from ...storage.errors import InputError, sentence
from ...storage.reader import Reader
from ...synth.checkpoint import SUFFIX
from ..assembling.network import Assembler
from ..inpainting.methods import FromNetwork
from ..models import Models, as_names_map
from .layouts import TRAIN, Entry, Layouts
from .options import SynthesisOptions

VERSION = 4
"""Of what a run writes: one that was begun by another version is not gone on with."""
PLAN = "plan.json"
FILLING = "roi"
"""The network that fills what is erased of photographs."""
KEY_PATCHES = "key-patches"
"""The network that assembles objects; it does not fit the bank's frame, as those that paint do."""
_REAL, _PICKS = 1, 2
"""What is drawn, each with random numbers of its own."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of the output.

    Attributes:
        index: its number, which names it.
        layout: number of its layout, None for a photograph; variant: of that layout.
        photograph: the source that is shown as it is, None for a synthesised image.
    """

    index: int
    layout: int | None
    variant: int
    photograph: str | None


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a run.

    Attributes:
        settings: the options as they were resolved, plain values, and the version of zeuxis; `compiled` says which
            packages run which network, None where all run as they are.
        bank: content hash of the bank; networks: file name to hash; size: `(rows, cols)` of the images.
        layouts: those of the run; picks: numbers of layouts, ascending, each made `variants` images of.
        real: sources whose photographs are kept, in the order of their places; places: their image numbers, ascending.
        images: how many there will be; split: whose they are, that of the layouts.
    """

    settings: Mapping[str, Any]
    bank: str
    networks: Mapping[str, str]
    size: tuple[int, int]
    layouts: tuple[Entry, ...]
    picks: tuple[int, ...]
    real: tuple[str, ...]
    places: tuple[int, ...]
    images: int
    split: str

    def __len__(self) -> int:
        return self.images

    @property
    def units(self) -> int:
        """How many shards there will be."""
        return -(-self.images // int(self.settings["shard"]))

    def unit(self, number: int) -> list[Item]:
        """The images of a shard."""
        shard = int(self.settings["shard"])
        return [self.item(index) for index in range(number * shard, min((number + 1) * shard, self.images))]

    def item(self, index: int) -> Item:
        """What the image of that number will be."""
        before = bisect_left(self.places, index)
        if before < len(self.places) and self.places[before] == index:
            return Item(index, None, 0, self.real[before])
        variants = int(self.settings["variants"])
        pick, variant = divmod(index - before, variants)
        layout = self.picks[pick]
        return Item(index, layout, (pick - bisect_left(self.picks, layout)) * variants + variant, None)

    def name(self, index: int) -> str:
        """What the files of an image are called."""
        return f"{index:0{self._digits}d}"

    @staticmethod
    def unit_name(number: int) -> str:
        """What the files of a shard are called."""
        return f"{number:05d}"

    @cached_property
    def _digits(self) -> int:
        return max(7, len(str(self.images - 1)))

    @cached_property
    def hash(self) -> str:
        """32 hex digits over all of it."""
        return hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=16).hexdigest()

    def to_bytes(self) -> bytes:
        """The plan file."""
        return (json.dumps({"version": VERSION, "hash": self.hash, **asdict(self)}, indent=0) + "\n").encode()

    @classmethod
    def load(cls, out: Path) -> Plan | None:
        """The plan that lies in a folder; None where there is none.

        Raises:
            InputError: it is damaged, or of another version.
        """
        path = out / PLAN
        try:
            said = json.loads(path.read_bytes())
            version, told = said.pop("version"), said.pop("hash")
            if version != VERSION:
                fix = "give --out another folder"
                raise InputError(sentence(path, expected=f"version {VERSION}", found=repr(version), fix=fix))
            layouts = tuple(Entry(*row) for row in said.pop("layouts"))
            tuples: dict[str, Any] = {name: tuple(said.pop(name)) for name in ("size", "picks", "real", "places")}
            plan = cls(layouts=layouts, **tuples, **said)
            if plan.hash != told:
                raise ValueError("its hash is another")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = f"is no plan of a synthesis ({error})"
            raise InputError(sentence(path, said, fix="give --out another folder")) from error
        return plan

    def check_same(self, other: Plan, out: Path) -> None:
        """Refuses a folder that holds another run.

        Raises:
            InputError: with what differs first.
        """
        if self.hash == other.hash:
            return
        mine, theirs = _flat(self), _flat(other)
        differs = next((name for name in mine if mine[name] != theirs.get(name)), "plan")
        said = f"holds another run: its {differs} differs"
        raise InputError(sentence(out, said, fix="give --out another folder, or the same arguments as before"))

    def with_layouts_of(self, other: Plan, numbers: Sequence[int]) -> Plan:
        """The same plan with these layouts as another one knows them, where they have the same names."""
        if [entry.name for entry in self.layouts] != [entry.name for entry in other.layouts]:
            return self
        layouts = list(self.layouts)
        for number in numbers:
            layouts[number] = other.layouts[number]
        return replace(self, layouts=tuple(layouts))


def make_plan(reader: Reader, models: Models, layouts: Layouts, options: SynthesisOptions) -> tuple[Plan, list[str]]:
    """The plan of a run, and what the user should know of it.

    Raises:
        InputError: there are no layouts, or a class to boost is not there.
    """
    if not len(layouts):
        where = f"split {options.from_bank or TRAIN} of {reader.path}" if layouts.paths is None else "--layouts"
        raise InputError(sentence(where, expected="at least one layout", found="none"))
    weights = _weights(reader, layouts, options)
    trainable = _trainable(reader, options)
    made = len(layouts) * options.variants
    wanted = round(options.keep_real * options.limit) if options.limit else 0
    if options.limit is not None:
        made = min(made, options.limit - wanted)
    real = round(made * options.keep_real / (1 - options.keep_real))
    if options.limit is not None:  # where it ends the run, all of its images are made
        real = wanted if made == options.limit - wanted else min(real, options.limit - made)
    said = []
    if real > len(trainable):
        real = len(trainable)
        said.append(sentence("keep_real", f"the bank has no more than {real:,} photographs that may be shown"))
    random = np.random.default_rng([options.seed, _REAL])
    shown = [trainable[number] for number in random.permutation(len(trainable))[:real].tolist()]
    places = np.sort(random.permutation(made + real)[:real]).tolist()
    picks = _picked(len(layouts), weights, -(-made // options.variants), options.seed)
    used = used_networks(models, options)
    others = [*filling_networks(models, options), *([(KEY_PATCHES, KEY_PATCHES)] if options.assemble else [])]
    size = models.load(*used[0]).size
    hashes = _hashes(models, [*used, *others])
    plan = Plan(
        _settings(options, packages_of(models, options)), reader.manifest.content, hashes,
        size, tuple(layouts.entries), picks,
        tuple(shown), tuple(places), made + real, options.from_bank or TRAIN,
    )  # fmt: skip
    return plan, said


def used_networks(models: Models, options: SynthesisOptions) -> list[tuple[str, str]]:
    """Kind and name of every network of a run, the one that paints first.

    Raises:
        InputError: `densify` or `agreement` asks for one that is not there.
    """
    stages = options.stages
    found = [(stages.kind, stages.network)]
    if models.sees_canvas(*found[0]):
        wanted = {"transform": options.transform == "network", "ordering": options.order == "network"}
        found += [(name, name) for name, wish in wanted.items() if wish and models.has(name)]
    for name, wish in {"densify": options.densify, "judge": options.agreement is not None}.items():
        if wish:
            if not models.has(name):
                what = {"densify": "--densify", "judge": "--agreement"}[name]
                fix = f"train one: `zeuxis train {name}`, or leave {what} out"
                raise InputError(sentence(what, f"{models.folder} holds no {name} network", fix=fix))
            found.append((name, name))
    return found


def filling_networks(models: Models, options: SynthesisOptions) -> list[tuple[str, str]]:
    """Kind and name of the network that fills what is erased of photographs; none where none are kept.

    Raises:
        InputError: it is not there.
    """
    if not options.erase or not options.keep_real:
        return []
    if not models.has(FILLING):
        said = f"{models.folder} holds no {FILLING} network to fill photographs"
        fix = f"train one: `zeuxis train {FILLING}`, or leave --keep-real out"
        raise InputError(sentence("--erase", said, fix=fix))
    return [(FILLING, FILLING)]


def packages_of(models: Models, options: SynthesisOptions) -> dict[str, list[str]] | None:
    """Name of a network to the compiled forms that run it, a line each; None where none are asked for."""
    if options.compiled is None:
        return None
    found = {name: list(models.load(kind, name).packages) for kind, name in used_networks(models, options)}
    for _, name in filling_networks(models, options):
        found[name] = list(FromNetwork(models.folder, name, models.device, models.compiled).packages)
    if options.assemble:
        found[KEY_PATCHES] = list(Assembler(models.folder, KEY_PATCHES, models.device, models.compiled).packages)
    return found


def boosted(options: SynthesisOptions, classes: ClassTable) -> dict[int, float]:
    """Class id to factor.

    Raises:
        InputError: the bank has no class of that name.
    """
    found = {}
    for name, factor in options.boost.items():
        entry = classes.named(name)
        if entry is None:
            known = f"one of the bank's classes: {', '.join(entry.name for entry in classes)}"
            raise InputError(sentence("--boost", expected=known, found=repr(name)))
        found[entry.id] = float(factor)
    return found


def _weights(reader: Reader, layouts: Layouts, options: SynthesisOptions) -> npt.NDArray[np.float64] | None:
    """How often each layout shall be taken, beside the others; None for all alike.

    One that holds a boosted class weighs more by its factor where it has as much of it as layouts that hold the class
    have on average, and accordingly where it has more or less: 1 + (factor - 1) * amount / average. A factor below 1
    divides by what its reciprocal would multiply by, so that no weight is 0; those of several classes are multiplied.
    Layouts that are made anew have more objects instead.
    """
    factors = boosted(options, reader.classes)
    if not factors or options.recompose or options.generated:
        return None
    amounts = layouts.amounts(list(factors))
    weights = np.ones(len(layouts))
    for column, (id, factor) in enumerate(factors.items()):
        holding = amounts[:, column] > 0
        if not holding.any():
            raise InputError(sentence("--boost", f"no layout holds any {reader.classes[id].name}", fix="leave it out"))
        relative = amounts[:, column] / amounts[holding, column].mean()
        more = 1 + (max(factor, 1 / factor) - 1) * relative
        weights *= more if factor > 1 else 1 / more
    return weights


def _picked(layouts: int, weights: npt.NDArray[np.float64] | None, count: int, seed: int) -> tuple[int, ...]:
    """Numbers of `count` layouts, ascending, as often as their weights say to within one (systematic sampling)."""
    shares = np.cumsum(np.ones(layouts) if weights is None else weights)
    start = np.random.default_rng([seed, _PICKS]).random()
    marks = (np.arange(count) + start) * shares[-1] / count
    return tuple(np.minimum(np.searchsorted(shares, marks, side="right"), layouts - 1).tolist())


def _trainable(reader: Reader, options: SynthesisOptions) -> list[str]:
    """Sources of `train` of which segments may be used: those whose photographs may be shown.

    Raises:
        InputError: there are none.
    """
    table = reader.table("segments", options.where, ["source", "split", "group"])
    rows = zip(*(table[name].to_pylist() for name in ("source", "split", "group")), strict=True)
    barred = set(options.exclude)
    found = {source for source, split, group in rows if split == TRAIN and not barred & {source, group}}
    if not found:
        said = f"no segment of {TRAIN} is left to synthesise from"
        raise InputError(sentence(reader.path, said, fix="take data in that trains, or exclude less"))
    return sorted(found)


def _settings(options: SynthesisOptions, packages: Mapping[str, Sequence[str]] | None) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in options.__dataclass_fields__}
    given["version"] = metadata.version("zeuxis")
    given["compiled"] = packages
    given["where"] = None if options.where is None else str(options.where)
    given["exclude"], given["erase"] = sorted(options.exclude), sorted(set(options.erase))
    given["boost"] = {name: float(options.boost[name]) for name in sorted(options.boost)}
    mapped = None if options.map_classes is None else as_names_map(options.map_classes)
    given["map_classes"] = mapped and {name: list(to) for name, to in mapped.items()}
    return given


def _hashes(models: Models, used: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Hashes of the files of networks."""
    return {
        f"{name}{SUFFIX}": hashlib.blake2b(models.path(name).read_bytes(), digest_size=16).hexdigest()
        for _, name in used
    }


def _flat(plan: Plan) -> dict[str, Any]:
    """What a plan consists of, by the words that a user knows."""
    told = {f"option {name}": value for name, value in plan.settings.items()}
    return told | {
        "bank": plan.bank,
        "set of networks": plan.networks,
        "set of layouts": plan.layouts,
        "plan": plan.hash,
    }
