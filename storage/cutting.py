"""Compiled passes over label maps by their runs: connecting, numbering, measuring, sampling and painting them.

A run is a stretch of equal values in a row. Runs of a map, in raster order, are `(first, starts, stops, values)`: row
`r` has the runs `first[r]` to `first[r + 1]`, of the columns `starts` to `stops`, half-open; pixels of no region have
none. There are far fewer of them than pixels.
"""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def find_runs(values, none):  # type: ignore[no-untyped-def]
    """The runs of a map.

    Args:
        values: `(H, W)` of unsigned integers.
        none: the value of pixels that belong to nothing.

    Returns:
        `first` `(H + 1,)`, `starts` and `stops` int32, values `(n,)` uint32.
    """
    rows, cols = values.shape
    first = np.zeros(rows + 1, np.int32)
    starts, stops, found = np.empty(8 * rows, np.int32), np.empty(8 * rows, np.int32), np.empty(8 * rows, np.uint32)
    n = 0
    for row in range(rows):
        if n + cols > len(starts):
            more = len(starts) + cols
            starts = np.concatenate((starts, np.empty(more, np.int32)))
            stops = np.concatenate((stops, np.empty(more, np.int32)))
            found = np.concatenate((found, np.empty(more, np.uint32)))
        line = values[row]
        begin, value = 0, line[0]
        for col in range(1, cols):
            if line[col] != value:
                if value != none:
                    starts[n], stops[n], found[n] = begin, col, value
                    n += 1
                begin, value = col, line[col]
        if value != none:
            starts[n], stops[n], found[n] = begin, cols, value
            n += 1
        first[row + 1] = n
    return first, starts[:n], stops[:n], found[:n]


@nb.njit(cache=True, nogil=True)
def connect_runs(first, starts, stops, values):  # type: ignore[no-untyped-def]
    """Numbers the 8-connected regions of equal value, from 1, by their first run in raster order.

    Returns:
        `(n,)` uint32, the number of each run's region, and `(regions,)` int64, the first run of each.
    """
    parents = np.arange(len(starts))  # of runs that belong together, an earlier one
    for row in range(1, len(first) - 1):
        above, last = first[row - 1], first[row]
        for run in range(first[row], first[row + 1]):
            while above < last and stops[above] < starts[run]:
                above += 1
            other = above
            while other < last and starts[other] <= stops[run]:
                if values[other] == values[run]:
                    one, two = _root(parents, other), _root(parents, run)
                    parents[max(one, two)] = min(one, two)
                other += 1
    return _numbered(parents)


@nb.njit(cache=True, nogil=True)
def number_runs(values):  # type: ignore[no-untyped-def]
    """As `connect_runs`, where runs of equal value are one region wherever they lie."""
    heads = np.full(values.max() + 1 if len(values) else 0, -1)
    parents = np.arange(len(values))
    for run in range(len(values)):
        if heads[values[run]] < 0:
            heads[values[run]] = run
        parents[run] = heads[values[run]]
    return _numbered(parents)


@nb.njit(cache=True, nogil=True)
def _root(parents, run):  # type: ignore[no-untyped-def]
    """The first run of all that are known to belong together; halves the way to it."""
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@nb.njit(cache=True, nogil=True)
def _numbered(parents):  # type: ignore[no-untyped-def]
    numbers, firsts, n = np.empty(len(parents), np.uint32), np.empty(len(parents), np.int64), 0
    for run in range(len(parents)):
        if parents[run] == run:
            firsts[n] = run
            n += 1
            numbers[run] = n
        else:
            numbers[run] = numbers[parents[run]]
    return numbers, firsts[:n].copy()


@nb.njit(cache=True, nogil=True)
def sample_runs(first, starts, stops, values, rows, cols):  # type: ignore[no-untyped-def]
    """The runs of a map sampled to other rows and columns.

    Args:
        first, starts, stops, values: of the map.
        rows: `(R,)`, which row each row is taken from; cols: `(W + 1,)`, how many columns are taken from the columns
            before each one.
    """
    heads = np.zeros(len(rows) + 1, np.int32)
    for row in range(len(rows)):
        heads[row + 1] = heads[row] + first[rows[row] + 1] - first[rows[row]]
    begins, ends = np.empty(heads[-1], np.int32), np.empty(heads[-1], np.int32)
    found, n = np.empty(heads[-1], np.uint32), 0
    for row in range(len(rows)):
        heads[row] = n
        for run in range(first[rows[row]], first[rows[row] + 1]):
            begin, end = cols[starts[run]], cols[stops[run]]
            if begin == end:
                continue
            if n > heads[row] and ends[n - 1] == begin and found[n - 1] == values[run]:
                ends[n - 1] = end  # what parted the two was not taken
                continue
            begins[n], ends[n], found[n] = begin, end, values[run]
            n += 1
    heads[-1] = n
    return heads, begins[:n], ends[:n], found[:n]


@nb.njit(cache=True, nogil=True)
def measure_runs(first, starts, stops, values, n):  # type: ignore[no-untyped-def]
    """Pixel counts, `(n,)` int64, and tight boxes, `(n, 4)` int32, of the regions 1..n; zeros where absent."""
    areas, boxes = np.zeros(n, np.int64), np.zeros((n, 4), np.int32)
    for row in range(len(first) - 1):
        for run in range(first[row], first[row + 1]):
            i = np.int64(values[run]) - 1
            if areas[i] == 0:
                boxes[i, 0], boxes[i, 1] = row, starts[run]
            areas[i] += stops[run] - starts[run]
            boxes[i, 1] = min(boxes[i, 1], starts[run])
            boxes[i, 2] = row + 1
            boxes[i, 3] = max(boxes[i, 3], stops[run])
    return areas, boxes


@nb.njit(cache=True, nogil=True)
def count_covered(first, starts, stops, cols, boxes):  # type: ignore[no-untyped-def]
    """How many pixels of each box lie in some run, whatever its value: boxes `(n, 4)` to `(n,)` int64.

    Counted as the box's pixels less those in the gaps between runs, of which a row has few.

    Args:
        first, starts, stops: of a map of `cols` columns; boxes: within it.
    """
    covered = np.empty(len(boxes), np.int64)
    for i in range(len(boxes)):
        covered[i] = np.int64(boxes[i, 2] - boxes[i, 0]) * np.int64(boxes[i, 3] - boxes[i, 1])
    begins, ends = np.empty(cols, np.int32), np.empty(cols, np.int32)
    for row in range(len(first) - 1):
        n, end = 0, 0
        for run in range(first[row], first[row + 1]):
            if starts[run] > end:
                begins[n], ends[n] = end, starts[run]
                n += 1
            end = stops[run]
        if end < cols:
            begins[n], ends[n] = end, cols
            n += 1
        for i in range(len(boxes) if n else 0):
            if boxes[i, 0] <= row < boxes[i, 2]:
                for gap in range(n):
                    covered[i] -= max(min(ends[gap], boxes[i, 3]) - max(begins[gap], boxes[i, 1]), 0)
    return covered


@nb.njit(cache=True, nogil=True)
def paint_runs(first, starts, stops, values, cols):  # type: ignore[no-untyped-def]
    """The map, `(H, cols)` uint32, of some runs; 0 where there is none."""
    painted = np.zeros((len(first) - 1, cols), np.uint32)
    for row in range(len(first) - 1):
        for run in range(first[row], first[row + 1]):
            painted[row, starts[run] : stops[run]] = values[run]
    return painted


@nb.njit(cache=True, nogil=True)
def sample_pixels(image, rows, cols):  # type: ignore[no-untyped-def]
    """`image[rows][:, cols]` of an `(H, W)` map."""
    sampled = np.empty((len(rows), len(cols)), image.dtype)
    for row in range(len(rows)):
        for col in range(len(cols)):
            sampled[row, col] = image[rows[row], cols[col]]
    return sampled


@nb.njit(cache=True, nogil=True)
def look_up(table, values):  # type: ignore[no-untyped-def]
    """`table[values]` of an `(H, W)` map of unsigned integers."""
    found = np.empty(values.shape, table.dtype)
    for row in range(values.shape[0]):
        for col in range(values.shape[1]):
            found[row, col] = table[values[row, col]]
    return found


@nb.njit(cache=True, nogil=True)
def look_up_counted(table, values, counts):  # type: ignore[no-untyped-def]
    """As `look_up`; adds to `counts`, run by run, how often each value occurs; none may be beyond its end."""
    rows, cols = values.shape
    found = np.empty(values.shape, table.dtype)
    for row in range(rows if cols else 0):
        line, own, begin, value = values[row], found[row], 0, values[row, 0]
        for col in range(cols):
            own[col] = table[line[col]]
        for col in range(1, cols):
            if line[col] != value:
                counts[value] += col - begin
                begin, value = col, line[col]
        counts[value] += cols - begin
    return found


@nb.njit(cache=True, nogil=True)
def runs_by_label(first, starts, stops, values, labels):  # type: ignore[no-untyped-def]
    """The runs of a map, those of each label together, in raster order.

    Args:
        first, starts, stops, values: runs of labels from 1 to `labels`.

    Returns:
        `(labels + 2,)` int64, where the runs of each label begin, and `(n, 3)` int32, row, start and stop of each.
    """
    heads = np.zeros(labels + 2, np.int64)
    for value in values:
        heads[value + 1] += 1
    heads = np.cumsum(heads)
    found, filled = np.empty((len(values), 3), np.int32), heads.copy()
    for row in range(len(first) - 1):
        for run in range(first[row], first[row + 1]):
            own = found[filled[values[run]]]
            own[0], own[1], own[2] = row, starts[run], stops[run]
            filled[values[run]] += 1
    return heads, found


@nb.njit(cache=True, nogil=True)
def cut_crop(image, runs, top, left, bits, deltas):  # type: ignore[no-untyped-def]
    """A region's crop of a photograph as the codec packs it; nothing outside of the region is looked at.

    Args:
        image: `(H, W, 3)` uint8 RGB; runs: `(n, 3)`, row, start and stop of those of the region, in raster order.
        top, left: corner of its box.
        bits: `(h, ceil(w / 8))` uint8 zeros, to hold the mask, the first pixel of a byte in its highest bit.
        deltas: `(3h, w)` uint8, to hold the planes G, R-G, B-G one below the other, zeros outside of the mask, each
            value less what its left, upper and upper-left neighbours predict, modulo 256.
    """
    height, width, run = len(bits), deltas.shape[1], 0
    line = np.zeros((3, width + 1), np.uint8)  # a row's planes behind a column of zeros
    above = np.zeros((3, width), np.uint8)  # what each value of the row before exceeds its left neighbour by
    for row in range(height):
        line[:] = 0
        while run < len(runs) and runs[run, 0] == top + row:
            start, stop = runs[run, 1], runs[run, 2]
            _add_planes(image[top + row, start:stop], line[:, start - left + 1 : stop - left + 1])
            _set_bits(bits[row], start - left, stop - left)
            run += 1
        for plane in range(3):
            _predict(line[plane], above[plane], deltas[plane * height + row])
    for plane in range(1, 3):  # above the first row of a plane stands the last one of the plane before
        deltas[plane * height] -= above[plane - 1]


@nb.njit(cache=True, nogil=True)
def _add_planes(pixels, line):  # type: ignore[no-untyped-def]
    """G, R-G and B-G, `(3, n)`, of pixels, `(n, 3)`."""
    one, two, three = line[0], line[1], line[2]
    for col in range(len(one)):
        green = pixels[col, 1]
        one[col], two[col], three[col] = green, np.uint8(pixels[col, 0] - green), np.uint8(pixels[col, 2] - green)


@nb.njit(cache=True, nogil=True)
def _set_bits(bits, begin, end):  # type: ignore[no-untyped-def]
    """Sets the bits from `begin` to `end`, the highest one of each byte first."""
    head, tail = begin >> 3, (end - 1) >> 3
    opened, closed = 255 >> (begin & 7), 255 << (7 - ((end - 1) & 7)) & 255
    if head == tail:
        bits[head] |= opened & closed
    else:
        bits[head] |= opened
        bits[head + 1 : tail] = 255
        bits[tail] |= closed


@nb.njit(cache=True, nogil=True)
def _predict(own, above, found):  # type: ignore[no-untyped-def]
    """What a row's values, behind a zero, exceed their left neighbours by, less that of the row above; kept there."""
    for col in range(len(found)):
        step = np.uint8(own[col + 1] - own[col])
        found[col] = np.uint8(step - above[col])
        above[col] = step
