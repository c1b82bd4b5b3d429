"""`zeuxis evaluate synthesis`: photographs synthesised for held-out layouts beside real ones, in a table and a page.

Every system paints the same layouts, of sources that no network was trained on and that no segment may come from. A
judge network, which is not the one the losses compare, says how well each can be parsed and how far its pictures are
from real ones; how far, the published Inception network says as well where the user has its weights. Void pixels of a
layout count nowhere. Pictures are compared at the size of the synthesis network;
photographs are averaged over areas to it, layouts sampled by nearest neighbour.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ...index.retriever import Retriever
from ...storage.errors import InputError, sentence
from ...storage.files import make_folder
from ...storage.images import Photograph
from ...storage.outputs import check_output, write_outputs
from ...storage.reader import Reader
from ...synth.checkpoint import SUFFIX, load_card
from ...synth.inception import load_inception
from ...synth.metrics import (
    Features,
    Interval,
    confusion,
    diversity,
    fid,
    kid,
    kid_gap,
    log_power_spectrum,
    masked_ssim,
    miou_gap,
    parsing,
    spectrum_distance,
)
from ..models import Models
from ..paint import Painter
from ..progress import Progress, silent
from ..training.sources import BankSources, held_out_split
from .judge import Judge, Reading, Truth, first_half
from .making import Making
from .report import build_report, spectra_figure, table_of
from .results import Evaluation, Figures, Gap, Judged
from .samples import Sample, painted
from .systems import CRN, WHOLE, System, available, misfit

REAL = "real"
"""What photographs are called among the systems."""
BLURRED, BLUR = "real, blurred", 1 / 64
"""The same photographs, smoothed by a Gaussian of this share of their rows: what figures say of so little."""
LAYOUTS = 200
"""Held-out layouts that are painted, at most."""
FEWEST = 4
"""Of them: one half of the photographs is compared with the other, and a distance needs two on each side."""


def evaluate(
    bank: str | Path,
    models: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    split: str | None = None,
    layouts: int = LAYOUTS,
    seed: int = 0,
    systems: Sequence[str] = (),
    needed: Sequence[str] = (),
    inception: str | Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Measures every system for which there are networks, and writes table, spectra, pictures and a page to look at.

    Args:
        bank: it must hold held-out sources, of split `test` or `val`.
        models: folder of networks, or several that differ in the seed of their training; the judge is the first one's.
        out: folder for `report.html`, `evaluation.json`, `spectra.png` and `pictures/`.
        split: whose layouts; default `test`, else `val`.
        layouts: how many, at most, evenly spaced; seed: of all draws.
        systems: names of those to measure, beside photographs; default all. needed: those that must be among them.
        inception: weights of the Inception network that published KID and FID are measured in; default the file that
            `ZEUXIS_INCEPTION` names. Without any there are no such figures.
        progress: told of every layout.

    Raises:
        InputError: no held-out sources, no judge, no such system, `inception` are no such weights, or `out` cannot be
            written; before anything is.
    """
    folders = [models] if isinstance(models, (str, Path)) else list(models)
    out = _checked_out(out)
    reader = Reader(bank)
    judge = Judge(Models(folders[0], reader).load("judge"), load_inception(inception))
    size = _size(Models(folders[0], reader))
    held = _held_out(reader, size, split, layouts)
    plan, left_out = _plan(folders, reader, size, systems, needed)
    truth = Truth.of(held, judge)
    about = _about(reader, judge, folders, truth, held.split, seed)
    retriever = Retriever(reader)
    making = Making(out, reader, folders, {"split": held.split, "layouts": layouts, "seed": seed})
    steps = _Counted(progress, sum(len(fit) for _, fit in plan) * len(held))
    judged = [_real(truth, judge), _blurred(truth, judge)]
    readings: dict[str, list[Reading]] = {}
    for system, fit in plan:
        samples = [
            [
                steps(one, system.name)
                for one in painted(Painter(reader, retriever, folder), system, held, seed, making, str(folder))
            ]
            for folder in fit
        ]
        pictures = [one.image for one in samples[0]]
        readings[system.name] = read = [judge([one.image for one in each]) for each in samples]
        figures = [_figures(each, *one, truth, judge) for each, one in zip(samples, read, strict=True)]
        judged.append(Judged(system.name, system.said, figures, pictures, log_power_spectrum(pictures)))
    judged = _compared(judged, readings, truth, judge.n_classes)
    found = Evaluation(judged, held.names, truth.layouts, about, left_out)
    files = _written(found, reader, out)
    making.done()
    return replace(found, files=files)


def _written(found: Evaluation, reader: Reader, out: Path) -> list[Path]:
    """Writes all that is to be looked at; returns the files that are no pictures of a system."""
    curve = spectra_figure(found)
    files = {
        out / "evaluation.json": (json.dumps(found.to_json(), indent=1) + "\n").encode(),
        out / "table.md": table_of(found).encode(),
        out / "spectra.png": curve,
        out / "report.html": build_report(found, reader, curve).encode(),
    }
    kept = _picture_files(found, out / "pictures")
    for folder in {path.parent for path in kept} | {out}:
        make_folder(folder)
    write_outputs({**kept, **files})
    return [*files]


@dataclass
class _Counted:
    """Tells the progress of everything that passes."""

    progress: Progress
    total: int
    done: int = 0

    def __call__(self, sample: Sample, note: str) -> Sample:
        self.done += 1
        self.progress(self.done, self.total, note)
        return sample


def _size(models: Models) -> tuple[int, int]:
    """At which pictures are compared: that of the synthesis network, else of CRN."""
    kind = CRN if models.has(CRN) and not models.has("synthesis") else "synthesis"
    return models.load(kind).size


def _figures(
    samples: Sequence[Sample], read: npt.NDArray[np.int64], features: Features, truth: Truth, judge: Judge
) -> Figures:
    scores = [each.score for each in samples if each.score is not None]
    spread = [judge(each.variants)[1] for each in samples if each.variants]
    return replace(
        _figures_of([each.image for each in samples], read, features, truth, judge),
        bank_share=float(np.mean([each.share for each in samples])),
        score=float(np.mean(scores)) if scores else None,
        diversity=diversity(spread) if spread else None,
        seconds=float(np.median([each.seconds for each in samples])),
        transforms=dict(sum((Counter(each.transforms) for each in samples), Counter())),
    )


def _figures_of(
    images: Sequence[Photograph], read: npt.NDArray[np.int64], features: Features, truth: Truth, judge: Judge
) -> Figures:
    """What pictures alone tell, one a layout, however they were made."""
    known = truth.indices < judge.n_classes
    by_inception = _by_inception(truth.seen, judge.seen(images))
    return Figures(
        *parsing(confusion(truth.indices, read, judge.n_classes)),
        kid(truth.features, features),
        fid(truth.features, features),
        spectrum_distance(truth.spectrum, log_power_spectrum(images)),
        float(np.mean([masked_ssim(*each) for each in zip(images, truth.photographs, known, strict=True)])),
        kid_inception=by_inception[0],
        fid_inception=by_inception[1],
    )


def _by_inception(real: Features | None, made: Features | None) -> tuple[Interval | None, float | None]:
    """KID and FID in features of the Inception network; None without its weights, FID for few pictures too."""
    return (None, None) if real is None or made is None else (kid(real, made), fid(real, made))


def _compared(
    judged: Sequence[Judged], readings: Mapping[str, Sequence[Reading]], truth: Truth, n_classes: int
) -> list[Judged]:
    """The same with each system's gap to the whole pipeline, where that is among them."""
    if WHOLE not in readings:
        return list(judged)
    counts = {
        name: [
            np.stack([confusion(*each, n_classes) for each in zip(truth.indices, read, strict=True)])
            for read, _ in found
        ]
        for name, found in readings.items()
    }
    features = {name: [found for _, found in each] for name, each in readings.items()}
    return [
        each
        if each.name == WHOLE or each.name not in readings
        else replace(
            each,
            gap=Gap(
                kid_gap(truth.features, features[each.name], features[WHOLE]),
                miou_gap(counts[each.name], counts[WHOLE]),
            ),
        )
        for each in judged
    ]


def _real(truth: Truth, judge: Judge) -> Judged:
    """The photographs themselves; their KID is that of one half to the other, what chance alone gives."""
    found = parsing(confusion(truth.indices, truth.read, judge.n_classes))
    half = first_half(truth.groups)

    def between(features: Features) -> Interval:
        return kid(features[half], features[~half])

    seen = None if truth.seen is None else between(truth.seen)
    figures = Figures(*found, between(truth.features), None, 0.0, 1.0, kid_inception=seen)
    apart = set(truth.groups[half]).isdisjoint(truth.groups[~half])
    halves = "some groups of them to the others" if apart else "the first half of them to the second"
    said = f"the photographs the layouts came from; KID of {halves}"
    return Judged(REAL, said, [figures], truth.photographs, truth.spectrum)


def _blurred(truth: Truth, judge: Judge) -> Judged:
    """The photographs out of focus, beside themselves: a scale for the distances of what is painted."""
    images = [cv2.GaussianBlur(image, (0, 0), BLUR * len(image)) for image in truth.photographs]
    figures = _figures_of(images, *judge(images), truth, judge)
    return Judged(BLURRED, "these out of focus, beside themselves", [figures], images, log_power_spectrum(images))


def _held_out(reader: Reader, size: tuple[int, int], split: str | None, layouts: int) -> BankSources:
    if layouts < FEWEST:
        raise InputError(sentence("layouts", expected=f"at least {FEWEST}", found=str(layouts)))
    chosen = split or held_out_split(reader)
    if chosen == "train":
        raise InputError(
            sentence(reader.path, expected="held-out sources (split test or val)", found="training sources alone",
                     fix="add some, or rebuild with all splits")
        )  # fmt: skip
    held = BankSources(reader, size, chosen, most=layouts)
    if len(held) < FEWEST:
        raise InputError(
            sentence(reader.path, expected=f"at least {FEWEST} labelled sources in {chosen}", found=str(len(held)))
        )
    return held


def _plan(
    folders: Sequence[str | Path],
    reader: Reader,
    size: tuple[int, int],
    wanted: Sequence[str],
    needed: Sequence[str],
) -> tuple[list[tuple[System, list[str | Path]]], list[str]]:
    """Each system with the folders to measure it with: one where it needs no network, else all that have them.

    Also what is said of systems that are left out, of those that are wanted where some are.

    Raises:
        InputError: no such system is to be had, or a network of a further folder is not for pictures of that size.
    """
    held = [(folder, Models(folder, reader)) for folder in folders]
    first, left_out = available(held[0][1], size)
    wanted, names = [*wanted, *needed] if wanted else [], [REAL, BLURRED, *(system.name for system in first)]
    if strange := sorted({*wanted, *needed} - set(names)):
        said = sentence(
            "systems", expected=f"some of {', '.join(map(repr, names))}", found=", ".join(map(repr, strange))
        )
        raise InputError("; ".join([said, *(left_out[name] for name in strange if name in left_out)]))
    plan: list[tuple[System, list[str | Path]]] = []
    for system in first:
        if wanted and system.name not in wanted:
            continue
        paints = (*system.needs, system.stages.network)
        fit = [each for each in held if all(each[1].has(name) for name in paints)] if system.needs else held[:1]
        for _, models in fit:
            if unlike := misfit(models, system, size):
                path, expected, own = unlike
                raise InputError(sentence(path, expected=f"{expected}, for those of {folders[0]}", found=own))
        plan.append((system, [folder for folder, _ in fit]))
    return plan, [] if wanted else [*left_out.values()]


def _checked_out(out: str | Path) -> Path:
    out = Path(out)
    if not out.is_dir():
        check_output(out)  # which can be made
        if out.exists():
            raise InputError(sentence(out, expected="a folder", found="a file", fix="give another name"))
    else:
        check_output(out / "report.html")
        if (out / "pictures").exists() and not (out / "pictures").is_dir():
            raise InputError(sentence(out / "pictures", expected="a folder", found="a file", fix="move it away"))
    return out


def _about(
    reader: Reader, judge: Judge, folders: Sequence[str | Path], truth: Truth, split: str, seed: int
) -> dict[str, Any]:
    names = [Path(folder).resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{name} {number}" for number, name in enumerate(names, start=1)]
    networks = {
        f"{name}/{path.stem}": _card(path)
        for name, folder in zip(names, folders, strict=True)
        for path in sorted(Path(folder).glob(f"*{SUFFIX}"))
    }
    card, seen_by = judge.model.card, {} if judge.inception is None else {"inception": judge.inception.name}
    return {
        "bank": reader.path.name, "generation": reader.manifest.generation, "split": split,
        "layouts": len(truth.layouts), "size": list(truth.layouts.shape[1:]), "seed": seed,
        "judge": f"{card.config.get('width')} wide, {card.step} steps, {truth.features.shape[1]} features",
        **seen_by, "networks": networks,
    }  # fmt: skip


def _card(path: Path) -> dict[str, Any]:
    card = load_card(path)
    return {"network": card.network, "step": card.step, "size": list(card.size), "features": card.features,
            "seed": card.training.get("seed")}  # fmt: skip


def _picture_files(found: Evaluation, folder: Path) -> dict[Path, bytes]:
    files = {}
    for each in found.systems:
        for name, picture in zip(found.names, each.pictures, strict=True):
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "PNG")
            files[folder / file_name(each.name) / f"{file_name(name)}.png"] = data.getvalue()
    return files


def file_name(name: str) -> str:
    """A system's or source's name as part of a file's."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip("-")
