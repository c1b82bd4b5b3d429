"""One file a data set; every one yields the same kind of source."""

from __future__ import annotations

import os
import re
from importlib import import_module

from ...storage.errors import DatasetError, sentence
from .base import Dataset
from .remote import public

KINDS = {
    "ade20k": ".ade20k:Ade20k",
    "ade20k_full": ".ade20k_full:Ade20kFull",
    "camvid": ".camvid:CamVid",
    "celeba": ".images:CelebA",
    "cityscapes": ".cityscapes:Cityscapes",
    "coco-stuff": ".coco_stuff:open_coco_stuff",
    "compcars": ".images:CompCars",
    "flowers": ".images:Flowers",
    "folder": ".folder:Folder",
    "gta5": ".gta5:Gta5",
    "images": ".images:Images",
    "nyu": ".nyu:open_nyu",
    "parquet": ".parquet:open_parquet",
    "scenes": ".scenes:Scenes",
    "tar": ".tarshards:open_tar",
}
"""Kind to `module:callable`, relative to this package; the callable takes the path. Imported when first opened."""


def open_dataset(spec: str) -> Dataset:
    """The data set that `kind:path` names, such as `nyu:../shared/data/nyu`.

    Raises:
        DatasetError: no colon, no such kind, no such path, or a class file that cannot be used.
    """
    kind, colon, path = spec.partition(":")
    if not colon or not path:
        raise DatasetError(
            sentence(
                f"data set {public(spec)!r}",
                expected="kind:path, such as folder:photographs",
                found="no path after a colon" if colon else "no colon",
                fix=f"put one of {', '.join(KINDS)} in front of the path",
            )
        )
    if kind not in KINDS:
        raise DatasetError(
            sentence(
                f"data set {f'{kind}:{public(path)}'!r}",
                expected=f"one of the kinds {', '.join(KINDS)}",
                found=repr(kind),
                fix="use folder for data of your own",
            )
        )
    module, _, name = KINDS[kind].partition(":")
    opener = getattr(import_module(module, __package__), name)
    root, options = split_options(path)
    dataset: Dataset = opener(root, **options)
    return dataset


def describe() -> list[tuple[str, str, str]]:
    """Kind, what it expects and its options, of every kind."""
    rows = []
    for kind, home in sorted(KINDS.items()):
        found = vars(import_module(home.partition(":")[0], __package__)).values()
        classes = [each for each in found if isinstance(each, type) and issubclass(each, Dataset)]
        own = next(each for each in classes if getattr(each, "kind", None) == kind)
        rows.append((kind, own.expects, "; ".join(f"{name}: {said}" for name, said in own.knows.items())))
    return rows


def split_options(path: str) -> tuple[str, dict[str, str]]:
    """`path?key=value&key=value` as path and options; a path that exists as it is written has none."""
    match = _OPTIONS.fullmatch(path)
    if match is None or os.path.exists(os.path.expanduser(path)):
        return path, {}
    return match[1], dict(pair.split("=", 1) for pair in match[2].split("&"))


_OPTIONS = re.compile(r"(.*)\?([a-z_]+=[^&=?]*(?:&[a-z_]+=[^&=?]*)*)")
