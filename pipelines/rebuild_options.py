"""What a rebuild is asked for: its options, checked once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import index
from pathlib import Path
from typing import Any, get_args

from ..ingest.ordering import Rule
from ..storage.errors import InputError, sentence
from ..storage.retention import KEEP

SIDES = (8, 65535)
"""Rows and columns of a frame."""


@dataclass(frozen=True)
class RebuildOptions:
    """The options of `rebuild`.

    Those of the first group decide what is extracted and are kept with the bank: `None` means what the bank has, or the
    default for a new one. Another value than the bank has is a change, and what depends on it is made anew: the
    geometry (`frame`, `min_area`, `join_thin`) decides everything; the others only what they name. A change needs all
    data sets of the bank in the run.

    Attributes:
        frame: `(rows, cols)` of the frame; default: the commonest source size, scaled to a longer side of 512.
        min_area: components under this many frame pixels are counted, not stored; default 64.
        join_thin: thin structures do not cut the region behind them (SIMS); default off.
        patches: find key patches; default on.
        edge_model: a structured-edge model file for the key patches; default: gradient edges.
        depth_rule: `ground` orders touching segments where there is no depth; default `none`.
        depth_model: a depth network (`.pt2`, `.onnx`) that gives depth to photographs that have none; default none.
        keep_sources: keep the sources' files in the bank as they came; default on.

        classes: YAML file that renames classes (`load_class_map`).
        split: take only sources of these splits, and leave those of others as they are; default all.
        shard_size: sources a shard, at most.
        scheduler: address of a Dask scheduler; default: a local cluster on 127.0.0.1.
        workers: processes of the local cluster; default one a core; 0 works in this process, without Dask.
        memory: bytes a worker may take; default: its share of the machine's.
        collect: workers do not reach the bank's folder; they send their shards back.
        max_pixels: a picture of more is refused before it is decoded; default 134,217,728.
        rehash: read every file instead of trusting sizes and modification times.
        retry: reasons of rejects to try again, `failed` for all; then nothing else is done.
        allow_shrink: accept that more than 10 % of a data set's sources vanished, or lost their image or label map.
        keep: generations that stay, the new one included; those that readers use stay as well.
        plan: extract a sample only, tell what the rebuild would take, refuse what does not fit; nothing is published.
        report: write the HTML report of the new generation into the bank.
        log: file to which one JSON line an event is appended.
        metrics: file that is replaced with Prometheus metrics.
    """

    frame: tuple[int, int] | None = None
    min_area: int | None = None
    join_thin: bool | None = None
    patches: bool | None = None
    edge_model: str | Path | None = None
    depth_rule: Rule | None = None
    depth_model: str | Path | None = None
    keep_sources: bool | None = None
    classes: str | Path | None = None
    split: Sequence[str] = ()
    shard_size: int = 128
    scheduler: str | None = None
    workers: int | None = None
    memory: int | None = None
    collect: bool = False
    max_pixels: int | None = None
    rehash: bool = False
    retry: Sequence[str] = ()
    allow_shrink: bool = False
    keep: int = KEEP
    plan: bool = False
    report: bool = True
    log: str | Path | None = None
    metrics: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("min_area", "shard_size", "memory", "max_pixels", "keep", "workers"):
            object.__setattr__(self, name, _whole(name, getattr(self, name), 0 if name == "workers" else 1))
        if self.memory and self.scheduler:
            fix = "give the limit to the workers when you start them"
            raise InputError(sentence("memory", "holds for workers that are started here", fix=fix))
        if self.frame is not None:
            object.__setattr__(self, "frame", _frame(self.frame))
        if self.depth_rule not in (None, *get_args(Rule)):
            raise InputError(sentence("depth_rule", expected=" or ".join(get_args(Rule)), found=repr(self.depth_rule)))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> RebuildOptions:
        """The options of a call.

        Raises:
            InputError: there is no such option, or its value makes no sense.
        """
        known = [field.name for field in fields(cls)]
        if strange := sorted(set(options) - set(known)):
            raise InputError(sentence("rebuild", expected=f"options {', '.join(known)}", found=", ".join(strange)))
        return cls(**options)

    @property
    def wishes(self) -> dict[str, Any]:
        """What is wanted of the settings that are kept with a bank; None where nothing is said."""
        paths = {name: getattr(self, name) for name in ("edge_model", "depth_model")}
        resolved = {name: path and str(Path(os.path.expanduser(path)).resolve()) for name, path in paths.items()}
        names = ("frame", "min_area", "join_thin", "patches", "depth_rule", "keep_sources")
        return {name: getattr(self, name) for name in names} | resolved


def _whole(name: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    try:
        number = index(value)
    except TypeError as error:
        raise InputError(sentence(name, expected="a whole number", found=repr(value))) from error
    if number < least:
        raise InputError(sentence(name, expected=f"at least {least}", found=str(number)))
    return number


def _frame(value: Any) -> tuple[int, int]:
    try:
        sides = tuple(map(index, value))
    except TypeError as error:
        raise InputError(sentence("frame", expected="whole numbers", found=repr(value))) from error
    if len(sides) != 2 or not all(SIDES[0] <= side <= SIDES[1] for side in sides):
        raise InputError(sentence("frame", expected=f"rows x cols, each in {SIDES[0]}..{SIDES[1]}", found=str(sides)))
    return sides
