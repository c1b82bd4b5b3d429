"""The functions of the package that take a bank's path: each opens the bank, once, and calls its method."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bank import Bank
from .storage.errors import InputError, sentence
from .storage.installation import check_installation
from .storage.outputs import keep_inputs

if TYPE_CHECKING:
    from .index.appearance import Similar
    from .index.explain import Explanation
    from .index.request import LayoutLike
    from .index.result import Hit, Retrieval
    from .pipelines.assemble import Assembled
    from .pipelines.assembling.patches import PatchLike
    from .pipelines.collage import Collage
    from .pipelines.inpaint import ImageLike, Inpainted
    from .pipelines.inpainting.regions import RegionLike
    from .pipelines.like import Liked
    from .pipelines.painted import Painted


def open(path: str | Path | None = None, models: str | Path | None = None) -> Bank:
    """Opens the current generation of a bank.

    Args:
        path: the bank's folder; default: the environment variable ZEUXIS_BANK.
        models: folder of the trained networks that `Bank.paint` uses.
    """
    check_installation()
    path = path or os.environ.get("ZEUXIS_BANK")
    if not path:
        raise InputError(sentence("bank", "none was named", fix="give its path or set ZEUXIS_BANK"))
    return Bank(path, models)


def retrieve(
    layout: LayoutLike | None = None,
    k: int = 5,
    *,
    bank: str | Path | None = None,
    figure: str | Path | None = None,
    **query: Any,
) -> Retrieval:
    """`Bank.retrieve` on the bank at `bank`, or the one named by ZEUXIS_BANK.

    Args:
        layout, k, query: as in `Bank.retrieve`.
        bank: the bank's folder.
        figure: where to save a picture of the result.
    """
    if figure is None:
        return _opened(bank).retrieve(layout, k, **query)
    from .index.figure import check_figure, save_figure

    check_figure(figure)
    keep_inputs([layout], [figure])
    result = _opened(bank).retrieve(layout, k, **query)
    save_figure(result.figure(), figure)
    return result


def collage(
    layout: LayoutLike | None = None, *, out: str | Path | None = None, bank: str | Path | None = None, **query: Any
) -> Collage:
    """`Bank.collage` on the bank at `bank`, or the one named by ZEUXIS_BANK."""
    return _opened(bank).collage(layout, out=out, **query)


def paint(
    layout: LayoutLike | None = None,
    variants: int = 1,
    seed: int = 0,
    *,
    models: str | Path,
    bank: str | Path | None = None,
    **query: Any,
) -> list[Painted]:
    """`Bank.paint` on the bank at `bank`, or the one named by ZEUXIS_BANK, with the networks in `models`."""
    return _opened(bank).paint(layout, variants, seed, models=models, **query)


def inpaint(
    image: ImageLike,
    region: RegionLike,
    variants: int = 1,
    seed: int = 0,
    *,
    bank: str | Path | None = None,
    **settings: Any,
) -> list[Inpainted]:
    """`Bank.inpaint` on the bank at `bank`, or the one named by ZEUXIS_BANK, or without one where none is needed.

    Args:
        image, region, variants, seed, settings: as in `Bank.inpaint`.
        bank: the bank's folder.
    """
    if bank or os.environ.get("ZEUXIS_BANK"):
        return _opened(bank).inpaint(image, region, variants, seed, **settings)
    from .pipelines.inpaint import inpaint

    return inpaint(image, region, variants, seed, **settings)


def assemble(
    patches: Sequence[PatchLike] = (),
    variants: int = 4,
    seed: int = 0,
    *,
    models: str | Path,
    bank: str | Path | None = None,
    **settings: Any,
) -> list[Assembled]:
    """`Bank.assemble` on the bank at `bank`, or the one named by ZEUXIS_BANK, or without one where none is needed.

    Args:
        patches, variants, seed, models, settings: as in `Bank.assemble`.
        bank: the bank's folder.
    """
    if bank or os.environ.get("ZEUXIS_BANK"):
        return _opened(bank).assemble(patches, variants, seed, models=models, **settings)
    from .pipelines.assemble import assemble

    made = assemble(patches, variants, seed, models=models, **settings)
    for warning in made[0].report.warnings:
        warnings.warn(warning, stacklevel=2)
    return made


def like(
    image: ImageLike,
    region: RegionLike,
    count: int = 36,
    seed: int = 0,
    *,
    generator: str | Path,
    models: str | Path | None = None,
    bank: str | Path | None = None,
    features: str | Path | None = None,
    freeze: bool = False,
    **settings: Any,
) -> Liked:
    """`Generator.like` of the generator at `generator`, a file or a folder of networks.

    Args:
        image, region, count, seed, settings: as in `Generator.like`.
        generator, models, features, freeze: as in `zeuxis.generator`.
        bank: the bank's folder; default the one named by ZEUXIS_BANK, if there is one.
    """
    from .generators import Generator

    held = _opened(bank) if bank or os.environ.get("ZEUXIS_BANK") else None
    opened = Generator(generator, models=models, features=features, bank=held, freeze=freeze)
    return opened.like(image, region, count, seed, **settings)


def similar(
    segment: Hit | Similar | int | str,
    k: int = 5,
    *,
    bank: str | Path | None = None,
    figure: str | Path | None = None,
    **query: Any,
) -> list[Similar]:
    """`Bank.similar` on the bank at `bank`, or the one named by ZEUXIS_BANK.

    Args:
        segment, k, query: as in `Bank.similar`.
        bank: the bank's folder.
        figure: where to save a picture of the segment and those that look like it.
    """
    if figure is None:
        return _opened(bank).similar(segment, k, **query)
    from .index.appearance import Neighbour
    from .index.appearance_figure import draw_similar
    from .index.figure import check_figure, save_figure

    check_figure(figure)
    opened = _opened(bank)
    found = opened.similar(segment, k, **query)
    looks = opened._appearance
    itself = looks.describe([Neighbour(0, *looks.find(segment))])[0]
    save_figure(draw_similar([(itself, found)]), figure)
    return found


def explain(
    layout: LayoutLike | None = None,
    component: int = 0,
    rank: int = 0,
    *,
    k: int = 5,
    bank: str | Path | None = None,
    out: str | Path | None = None,
    **query: Any,
) -> Explanation:
    """Why a hit scored what it did: retrieves as `Bank.retrieve` does, and explains one hit of one component.

    Args:
        layout, query: as in `Bank.retrieve`.
        component, rank: numbers from 0, as in `retrieve(layout, k)[component].hits[rank]`.
        k: as `retrieve` was asked; only `sample` makes a difference.
        bank: the bank's folder.
        out: where to save the picture.

    Raises:
        as `Bank.retrieve`; InputError: there is no such component or rank, or `out` cannot be written.
    """
    from .index.figure import check_figure
    from .index.request import is_whole

    if out is not None:
        check_figure(out)
        keep_inputs([layout], [out])
    for name, number in (("component", component), ("rank", rank)):
        if not is_whole(number, 0):
            raise InputError(sentence(name, expected="a whole number of at least 0", found=repr(number)))
    if query.get("sample") and is_whole(k, 1) and rank >= k:
        expected, fix = f"one of the {k} hits that are drawn, from 0", "give the k that was retrieved with"
        raise InputError(sentence(f"rank {rank}", expected=expected, found="no such number", fix=fix))
    result = _opened(bank).retrieve(layout, max(k, rank + 1) if is_whole(k, 1) else k, **query)
    if component >= len(result):
        expected = f"one of the {len(result)} components, from 0"
        raise InputError(sentence(f"component {component}", expected=expected, found="no such number"))
    hits = result[component].hits
    if rank >= len(hits):
        raise InputError(
            sentence(f"rank {rank}", expected=f"one of the {len(hits)} hits, from 0", found="no such number")
        )
    explained = hits[rank].explain()
    if out is not None:
        explained.save(out)
    return explained


_banks: dict[Path, tuple[tuple[int, int, int], Bank]] = {}


def _opened(path: str | Path | None) -> Bank:
    """An open bank, kept as long as the manifest it was opened by is the current one."""
    from .storage.manifest import generations, manifest_path

    folder = Path(os.path.expanduser(path or os.environ.get("ZEUXIS_BANK", ""))).resolve()
    numbers = generations(folder)
    if not numbers:
        return open(path)  # which says what is wrong
    try:
        status = manifest_path(folder, numbers[-1]).stat()
    except FileNotFoundError:  # removed since it was listed: there is a newer one
        return _opened(path)
    stamp = (numbers[-1], status.st_ino, status.st_mtime_ns)
    if folder not in _banks or _banks[folder][0] != stamp:
        _banks[folder] = (stamp, open(path))
    return _banks[folder][1]
