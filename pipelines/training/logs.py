"""What people see of a training: a CSV table, TensorBoard's event files, sample pictures, a curve of the losses.

All of it lies in one folder a network. A training that goes on cuts the tables where its state ends, so that no row is
there twice and none is missing.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...storage.images import Photograph
from ...storage.outputs import write_outputs

LOSSES, VALIDATION, CURVE, GRIDS = "losses.csv", "validation.csv", "curve.png", "grids"
COMMON = ("step", "seconds", "images_per_second")
"""Columns of `losses.csv` before the terms."""
TOTAL = "total_"
"""Before an optimiser's name: the column of what it lowers."""

Row = Mapping[str, Any]


class Logs:
    """The log folder of one training.

    Args:
        folder: exists; step: rows after it are dropped, since they are made anew.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.folder = folder
        if not step:
            clear(folder)
        (folder / GRIDS).mkdir(exist_ok=True)
        self._losses = Table(folder / LOSSES, step)
        self._validation = Table(folder / VALIDATION, step)
        self._board = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def losses(self, step: int, seconds: float, rate: float, terms: Mapping[str, float]) -> None:
        """One row: training seconds so far, images a second and mean terms since the row before."""
        common = dict(zip(COMMON, (step, round(seconds, 3), round(rate, 3)), strict=True))
        self._losses.append({**common, **terms})
        self._scalars({"images_per_second": rate, **terms}, "train", step)

    def validation(self, step: int, figures: Mapping[str, float], grid: Photograph) -> None:
        """One row of figures, the samples as `grids/STEP.png`, and the curve drawn anew."""
        self._validation.append({"step": step, **figures})
        self._scalars(figures, "validation", step)
        self._board.add_image("samples", grid, step, dataformats="HWC")
        self._board.flush()
        files = {self.folder / GRIDS / f"{step:06d}.png": _png(grid)}
        write_outputs({**files, self.folder / CURVE: draw_curve(self._losses.rows, self._validation.rows)})

    def close(self) -> None:
        """Ends TensorBoard's file."""
        self._board.close()

    def _scalars(self, values: Mapping[str, float], group: str, step: int) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{group}/{name}", value, step)


class Table:
    """A CSV file that grows by rows, and anew where a row has a column that no row before it had."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows = [row for row in read_table(path) if row["step"] <= step]
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        self._write()

    def append(self, row: Row) -> None:
        """Adds a row."""
        self.rows.append(dict(row))
        if new := [name for name in row if name not in self._columns]:
            self._columns += new
            self._write()
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_outputs({self.path: text.getvalue().encode() if self._columns else b""})


def read_table(path: Path) -> list[dict[str, float]]:
    """The rows of a table, numbers by column; half a line at the end, of a run that was killed, is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        found = list(reader)
    rows = []
    for row in found:
        try:
            rows.append({name: float(value) for name, value in row.items() if value != ""})
        except (TypeError, ValueError):
            break
    return [{**row, "step": int(row["step"])} for row in rows]


def clear(folder: Path) -> None:
    """Removes the logs of the training before; other files stay."""
    for path in (*folder.glob("events.out.tfevents.*"), *(folder / name for name in (LOSSES, VALIDATION, CURVE))):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / GRIDS, ignore_errors=True)


def draw_curve(losses: Sequence[Row], validation: Sequence[Row]) -> bytes:
    """A PNG: terms by step above, on a logarithmic axis where all are positive; figures of validation below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    positive = True
    for name in _names(losses, COMMON):
        steps, values = _line(losses, name)
        positive &= bool((values > 0).all())
        above.plot(steps, values, label=name, linewidth=2 if name.startswith(TOTAL) else 1)
    if positive and losses:
        above.set_yscale("log")
    above.set_ylabel("loss")
    for name in _names(validation, COMMON):
        below.plot(*_line(validation, name), marker="o", markersize=3, label=name)
    below.set_ylabel("validation")
    below.set_xlabel("step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small", ncols=2)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()


def _names(rows: Sequence[Row], but: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name not in but]


def _line(rows: Sequence[Row], name: str) -> tuple[list[int], Any]:
    held = [row for row in rows if name in row]
    return [row["step"] for row in held], np.array([row[name] for row in held], float)


def _png(image: Photograph) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()
