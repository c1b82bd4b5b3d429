"""`zeuxis synthesize`: labelled images for training, made from a bank, in shards that are published one by one."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...index.request import is_whole
from ...ingest.datasets.listing import PICTURES
from ...storage.errors import InputError, sentence
from ...storage.files import make_folder
from ...storage.outputs import keep_banks
from ...storage.reader import Reader
from ..models import Models
from ..progress import Progress, silent
from .assembling import check_assembling
from .finish import finish, records, replace_file
from .layouts import Layouts
from .line import Rate, bottleneck
from .making import Making, Where
from .options import SynthesisOptions
from .plan import PLAN, Plan, boosted, make_plan
from .report import write_report
from .samples import Encoder
from .session import Session
from .units import Units, folder_lock, refused
from .writers import writer_of

LOG = "log.jsonl"
RETRY = (None, "failed")
SHOWN_REJECTS = 20


@dataclass(frozen=True)
class SynthesisReport:
    """What a run did.

    Attributes:
        out: where; images: that are there now; made: by this run; rejected: that could not be made.
        left_out: that were made, and that the judge did not find in agreement with their layouts.
        reasons: word to count, of what was rejected; rejects: up to 20 sentences, a layout each.
        seconds: wall time of making; rates: of its stages; bottleneck: what held it up.
        warnings: what the user should know; cores, device: what it ran on.
    """

    out: Path
    images: int
    made: int
    rejected: int
    left_out: int
    reasons: Mapping[str, int]
    rejects: Sequence[str]
    seconds: float
    rates: Sequence[Rate]
    bottleneck: str
    warnings: Sequence[str]
    cores: int
    device: bool


@dataclass
class _Teller:
    """Passes on each sentence once, and keeps it."""

    tell: Callable[[str], None]
    said: list[str] = field(default_factory=list)

    def __call__(self, sentence: str) -> None:
        if sentence not in self.said:
            self.said.append(sentence)
            self.tell(sentence)


def synthesize(
    bank: str | Path,
    models: str | Path,
    out: str | Path,
    layouts: str | Path | None = None,
    options: SynthesisOptions | None = None,
    *,
    retry: str | None = None,
    device: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda said: None,
    **settings: Any,
) -> SynthesisReport:
    """Makes labelled images for training in a folder; the same call goes on where an earlier one stopped.

    Segments, objects and photographs are of sources of `train` alone, and keep apart as `options` say; an image
    of which that is not so is an error. Equal arguments give the same bytes, on the same kind of machine.

    Args:
        bank: the bank's folder; models: folder of trained networks; out: for the images; made where there is none.
        layouts: a folder of layouts; None for the bank's own.
        options: or, by name, what `SynthesisOptions` takes.
        retry: `failed` makes shards with rejects again; layouts that were rejected may have been replaced meanwhile.
        device: that the networks run on, those of a cluster's workers too; default a GPU where there is one.
        workers: threads of a stage; default one a core.
        scheduler: address of a Dask scheduler whose workers see the same files; each makes whole shards.
        progress: told how many images there are; tell: takes a sentence that the user should read meanwhile.

    Raises:
        InputError: something cannot be used, or `out` holds another run. LeakError: see above. UnfinishedError: the
        disk, the device or the cluster failed; what is published stays.
    """
    given, folder = options or SynthesisOptions(**settings), Path(os.path.expanduser(out))
    _check_asked(given, layouts, retry, workers)
    reader, teller = Reader(bank), _Teller(tell)
    boosted(given, reader.classes)
    entry = None if given.dataset is None else reader.dataset(given.dataset)
    paths = None if layouts is None else pictures_in(Path(os.path.expanduser(layouts)))
    networks = Models(models, reader, given.map_classes, device, given.compiled)
    if given.assemble:
        check_assembling(networks, given)
    plan, said = make_plan(reader, networks, Layouts(reader, given, paths), given)
    _check_folder(folder)
    session = Session(reader, networks, given, plan, paths, teller)
    for each in (*said, *session.warnings()):
        teller(each)
    with _disk_of(folder):
        make_folder(folder)
        with folder_lock(folder):
            units = _agreed(folder, plan, retry)
            encoder = Encoder(plan, session.guard, reader.classes, entry, given.coco)
            making = Making(units, session, encoder, progress, workers)
            making.all(scheduler, Where(str(reader.path), str(models), paths, str(folder), given, plan.hash, device))
            finish(units, reader.classes)
            report = _report(units, making, teller.said)
            _log(folder, report)
            write_report(units, reader.classes, report)
    return report


def _check_asked(options: SynthesisOptions, layouts: str | Path | None, retry: str | None, workers: int | None) -> None:
    """Refuses what does not go together.

    Raises:
        InputError: it is so.
    """
    if retry not in RETRY:
        raise InputError(sentence("retry", expected="failed", found=repr(retry)))
    if workers is not None and not is_whole(workers, 1):
        raise InputError(sentence("workers", expected="a whole number of at least 1", found=repr(workers)))
    if layouts is not None and options.from_bank is not None:
        raise InputError(sentence("--from-bank", "excludes --layouts", fix="name one of them"))
    if layouts is not None and options.generated:
        raise InputError(sentence("--generated", "excludes --layouts", fix="name one of them"))
    if options.densify and layouts is None:
        raise InputError(sentence("--densify", "is for coarse layouts", fix="name them with --layouts"))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, by name.

    Raises:
        InputError: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise InputError(sentence(folder, expected="a folder of layouts", found="none"))
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not found:
        raise InputError(sentence(folder, expected="pictures of layouts", found="none"))
    return found


def _check_folder(folder: Path) -> None:
    """Refuses, before anything is made, a place that cannot be the output.

    Raises:
        InputError: a file, a folder of something else or in a bank, or one that cannot be written.
    """
    keep_banks(folder)
    if folder.is_dir():
        strangers = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if strangers and not (folder / PLAN).exists():
            fix = "give --out an empty or a new folder"
            raise InputError(sentence(folder, expected=f"a folder with {PLAN}", found=sorted(strangers)[0], fix=fix))
        place = folder
    elif os.path.lexists(folder):
        raise InputError(sentence(folder, expected="a folder", found="a file", fix="give --out another name"))
    else:
        place = next(parent for parent in folder.absolute().parents if parent.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(sentence(folder, "cannot be written", fix="give --out another place"))


def _agreed(folder: Path, plan: Plan, retry: str | None) -> Units:
    """The shards of a folder that holds this plan, or does now; what is not whole is removed.

    Raises:
        InputError: it holds another run.
    """
    units = Units(folder, plan, writer_of(plan.settings["format"], plan.split))
    before = Plan.load(folder)
    if before is not None and before.hash != plan.hash:
        renewed = before.with_layouts_of(plan, sorted(_rejected_layouts(units))) if retry == "failed" else before
        renewed.check_same(plan, folder)
    if before is None or before.hash != plan.hash:
        replace_file(folder / PLAN, [plan.to_bytes()])
    if retry == "failed":  # after the plan: until they are gone, the rejects say which layouts may be others now
        _forget_failed(units)
    units.clean()
    return units


def _rejected_layouts(units: Units) -> set[int]:
    """Numbers of the layouts of which no image could be made."""
    found = (units.record(number) for number in range(units.plan.units))
    rows = [row for record in found if record for row in record["rejects"]]
    return {row["number"] for row in rows if row["number"] is not None}


def _forget_failed(units: Units) -> None:
    for number in range(units.plan.units):
        record = units.record(number)
        if record and record["rejects"]:
            units.forget(number)


def _report(units: Units, making: Making, said: Sequence[str]) -> SynthesisReport:
    rejects = [row for record in records(units) for row in record["rejects"]]
    images, left_out = (sum(len(record[what]) for record in records(units)) for what in ("images", "left_out"))
    rates, seconds = making.clocks.rates(), making.seconds
    cores = making.cores
    return SynthesisReport(
        units.out, images, making.made, len(rejects), left_out, dict(Counter(row["reason"] for row in rejects)),
        list(dict.fromkeys(row["said"] for row in rejects))[:SHOWN_REJECTS], seconds, rates,
        bottleneck(rates, seconds, cores, making.clocks.device), list(said), cores, making.clocks.device,
    )  # fmt: skip


def _log(folder: Path, report: SynthesisReport) -> None:
    """Adds a line to the log: what this run made, how fast."""
    rates = [rate._asdict() for rate in report.rates]
    told = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "made": report.made, "images": report.images}
    told |= {"rejected": report.rejected, "left_out": report.left_out, "seconds": report.seconds}
    told |= {"bottleneck": report.bottleneck, "rates": rates}
    with open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


@contextmanager
def _disk_of(folder: Path) -> Iterator[None]:
    """What the disk refuses, in a sentence."""
    try:
        yield
    except OSError as error:
        raise refused(folder, error) from error
