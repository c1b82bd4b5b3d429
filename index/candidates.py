"""FAISS nominates candidates: for one index part, an inverted file whose lists belong to classes.

Every class has lists of its own, one while it is small (its search is a flat scan), about sqrt(n) by k-means where it
is large, so that a search never leaves the class, and all of a part is one file that FAISS maps into memory. The
vectors are those of `index/embedding.py`, by a projection of the class's own where it is large enough to learn one.
What is nominated must be scored exactly afterwards.

Graphs (HNSW) over the same vectors nominate the same 500 of a class of 100 thousand in twice the time, and take five
times the memory: there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..storage.arrays import arrays_to_bytes, map_arrays
from ..storage.classes import VOID
from ..storage.errors import BankError, InstallationError, sentence
from ..storage.footprints import Footprints
from .embedding import (
    Partition,
    Projection,
    Vectors,
    commonest_classes,
    count_components,
    count_segments,
    fit_projection,
    keep_classes,
    partition,
)
from .query import Query

INDEX_FILE = "candidates.faiss"
TABLE_FILE = "candidates.safetensors"

DIM = 128
"""Of the vectors, the norm of what the projection loses included."""
COUNTED = 12
"""Classes counted in the contexts of one projection, at most: the commonest there."""
LARGE = 4096
"""Segments above which a class has a projection of its own, and several lists."""
PROBED = 0.03
"""Share of the lists of a class that is searched, the nearest ones; more where they hold too little to choose from."""
CHOICE = 4
"""How many times as many segments as are asked for are looked at, at least."""
CODES = {"flat": 4 * DIM, "sq8": DIM, "pq": DIM // 2}
"""How vectors are stored, best first, and their bytes: float32, one byte a dimension, one for two dimensions."""

_ID = 8  # bytes
_SAMPLE = 8192  # segments a projection is learnt from
_LEAST_FOR_PQ = 39 * 256  # segments: what FAISS wants to learn 256 centres from
_CHUNK = 8192  # segments whose counts are in memory at a time

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CandidateTable:
    """What a search needs beside the FAISS index, as it lies memory-mapped on disk.

    Attributes:
        frame: `(2,)` int64.
        offsets: `(S + 1,)` int64, the number of the first segment of each shard; then how many there are.
        classes: `(K,)` uint16, ascending; ranges: `(K, S, 2)` int64, the rows of each in every shard.
        lists: `(K, 2)` int64, the half-open range of each class's lists.
        projection: `(K,)` int64, which projection a class has, of counted: `(P, C)` uint16 and
            matrices: `(P, F, DIM - 1)` float32.
    """

    frame: Rows
    offsets: Rows
    classes: npt.NDArray[np.uint16]
    ranges: Rows
    lists: Rows
    projection: Rows
    counted: npt.NDArray[np.uint16]
    matrices: Vectors


def choose_codes(segments: int, budget: int) -> str:
    """The best of `CODES` with which a part's vectors and ids fit a budget in bytes, else the smallest.

    Few segments never need `pq`, whose tables could not be learnt from them.
    """
    fitting = next((name for name, size in CODES.items() if segments * (size + _ID) <= budget), "pq")
    return "sq8" if fitting == "pq" and segments < _LEAST_FOR_PQ else fitting


def candidate_files(
    footprints: Sequence[Footprints], frame: tuple[int, int], budget: int, seed: int = 0
) -> Mapping[str, bytes]:
    """The files of the candidate index of one part, name to bytes; none for a part without segments.

    Args:
        footprints: of its shards; a segment's number is its row plus the rows of the shards before.
        frame: `(rows, cols)` of the bank.
        budget: bytes that vectors and ids may take, on disk and in memory (see `choose_codes`).
        seed: of samples and clusters.

    Raises:
        BankError: a segment has no pixels.
    """
    import faiss
    from faiss.contrib.ivf_tools import add_preassigned

    _check_areas(footprints)
    offsets = np.cumsum([0, *map(len, footprints)], dtype=np.int64)
    if not offsets[-1]:
        return {}
    classes, ranges = _class_ranges(footprints)
    numbers = [_numbers(each, offsets) for each in ranges]
    source = _Source(footprints, offsets, partition(frame))
    with one_thread():
        learnt = _learn(source, numbers, np.random.default_rng(seed))
        centroids = [_centroids(learnt, k, len(each), seed) for k, each in enumerate(numbers)]
        ends = np.cumsum([len(each) for each in centroids])
        lists = np.stack([ends - [len(each) for each in centroids], ends], axis=1)
        index = _empty_index(choose_codes(int(offsets[-1]), budget), np.concatenate(centroids))
        index.train(np.concatenate(learnt.samples))
        for k, each in enumerate(numbers):
            projection = learnt.projections[learnt.projection_of[k]]
            for start in range(0, len(each), _CHUNK):
                part = each[start : start + _CHUNK]
                vectors = projection.embed(source.counts(part, projection.classes))
                nearest = lists[k, 0] + (vectors @ centroids[k].T).argmax(axis=1)
                add_preassigned(index, vectors, nearest.astype(np.int64), part)
        counted = np.stack([projection.classes for projection in learnt.projections])
        matrices = np.stack([projection.matrix for projection in learnt.projections])
        table = CandidateTable(
            np.array(frame), offsets, classes, ranges, lists, learnt.projection_of, counted, matrices
        )  # fmt: skip
        return {TABLE_FILE: arrays_to_bytes(table), INDEX_FILE: faiss.serialize_index(index).tobytes()}


class Candidates:
    """The candidate index of one part, memory-mapped; may be searched by several threads at once.

    Args:
        folder: of the part; the hashes of its files have been checked.
        device: the CUDA device that searches, for those who have `faiss-gpu`; None for the CPU.
    """

    def __init__(self, folder: Path, device: int | None = None) -> None:
        import faiss

        self.table = map_arrays(CandidateTable, folder / TABLE_FILE)
        self._index = _map_index(folder / INDEX_FILE)
        if self._index.ntotal != self.table.offsets[-1]:
            found = f"{self._index.ntotal:,} and {self.table.offsets[-1]:,} segments"
            raise BankError(sentence(folder, f"{INDEX_FILE} and {TABLE_FILE} belong to two parts", found=found))
        quantizer: Any = faiss.downcast_index(self._index.quantizer)
        self._centroids = faiss.rev_swig_ptr(quantizer.get_xb(), quantizer.ntotal * DIM).reshape(-1, DIM)
        self._cells = partition((int(self.table.frame[0]), int(self.table.frame[1])))
        self._resources, self._on_device = _to_device(self._index, device)

    def nominate(
        self,
        query: Query,
        count: int,
        allowed: Sequence[npt.NDArray[np.bool_]] | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
        probed: float = PROBED,
    ) -> list[Rows]:
        """The segments that most likely score best, for every component of a layout.

        Args:
            query: of `make_query`, cut for this bank's frame.
            count: candidates a component, at most; where the class has no more, all of it.
            allowed: by shard of the part, which rows may be nominated; None for all.
            weights: of mask and context.
            probed: share of the lists of a class that is searched (see `PROBED`).

        Returns:
            By component, `(n, 2)` int64 of shard in the part and row, best first where n is less than the class.
        """
        found: list[Rows] = [np.zeros((0, 2), np.int64)] * len(query.class_ids)
        mask = None if allowed is None else np.concatenate(allowed)
        selected = None if mask is None else _selector(mask)
        weights = weights[0] / max(weights), weights[1] / max(weights)  # their scale changes no order
        for class_id in np.unique(query.class_ids):
            k = int(np.searchsorted(self.table.classes, class_id))
            if k == len(self.table.classes) or self.table.classes[k] != class_id:
                continue
            which = np.flatnonzero(query.class_ids == class_id)
            kept = self._kept(k, mask)
            if kept <= count:
                numbers = _numbers(self.table.ranges[k], self.table.offsets)
                chosen = [numbers if mask is None else numbers[mask[numbers]]] * len(which)
            else:
                share = min(max(probed, CHOICE * count / kept), 1.0)
                vectors = self._embed(query, which, k, weights)
                nearest = self._search(vectors, k, count, share, selected)
                short = np.flatnonzero(nearest[:, -1] < 0)
                if share < 1 and short.size:  # what a filter leaves may lie in other lists than the nearest
                    nearest[short] = self._search(vectors[short], k, count, 1.0, selected)
                chosen = list(nearest)
            for q, numbers in zip(which, chosen, strict=True):
                found[q] = self._places(numbers[numbers >= 0])
        return found

    def _kept(self, k: int, mask: npt.NDArray[np.bool_] | None) -> int:
        """How many segments of a class may be nominated."""
        ranges = self.table.ranges[k] + self.table.offsets[:-1, None]
        if mask is None:
            return int((ranges[:, 1] - ranges[:, 0]).sum())
        return sum(int(mask[first:last].sum()) for first, last in ranges)

    def _embed(self, query: Query, which: Rows, k: int, weights: tuple[float, float]) -> Vectors:
        number = int(self.table.projection[k])
        projection = Projection(self.table.counted[number], self.table.matrices[number], self._cells.mask_cells)
        return projection.embed(count_components(query.arrays, which, self._cells, projection.classes), weights)

    def _search(self, vectors: Vectors, k: int, count: int, share: float, selected: Any) -> Rows:
        """Numbers of the best segments of a class, `(q, count)`, -1 where the lists searched hold no more."""
        import faiss

        first, last = (int(end) for end in self.table.lists[k])
        probes = int(np.ceil(share * (last - first)))
        near = vectors @ self._centroids[first:last].T
        lists = first + np.argpartition(-near, probes - 1, axis=1)[:, :probes].astype(np.int64)
        index = self._index
        if self._on_device is not None and selected is None and count <= _MOST_ON_DEVICE:
            index = self._on_device
        found, scores = np.empty((len(vectors), count), np.int64), np.empty((len(vectors), count), np.float32)
        arrays = np.ascontiguousarray(lists), np.zeros(lists.shape, np.float32), scores, found
        pointers = [faiss.swig_ptr(array) for array in arrays]
        parameters: Any = faiss.SearchParametersIVF
        chosen = parameters(nprobe=probes, sel=selected)
        with one_thread():
            index.search_preassigned_c(len(vectors), faiss.swig_ptr(vectors), count, *pointers, False, chosen)
        return found

    def _places(self, numbers: Rows) -> Rows:
        """Shard in the part, and row, of segments by their numbers."""
        shard = np.searchsorted(self.table.offsets, numbers, side="right") - 1
        return np.stack([shard, numbers - self.table.offsets[shard]], axis=1)


_MOST_ON_DEVICE = 2048  # results that FAISS can rank on a device


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS on one thread: callers share work between threads, and one order of sums gives one answer."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _selector(mask: npt.NDArray[np.bool_]) -> Any:
    """What tells FAISS which segments may be nominated."""
    import faiss

    selector: Any = faiss.IDSelectorBitmap  # it takes an array, whatever its annotations say
    return selector(np.packbits(mask, bitorder="little"))


def _map_index(path: Path) -> Any:
    import faiss

    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)


def _to_device(index: Any, device: int | None) -> tuple[Any, Any]:
    """The resources of a CUDA device, and a copy of the index there; not run so far, written from documentation."""
    import faiss

    if device is None:
        return None, None
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() <= device:
        raise InstallationError(
            sentence(f"device {device}", expected="faiss-gpu and such a CUDA device", found="none", fix="leave it out")
        )
    resources, options = faiss.StandardGpuResources(), faiss.GpuClonerOptions()
    options.use_cuvs = False
    options.useFloat16 = isinstance(index, faiss.IndexIVFPQ)  # its tables do not fit a block otherwise
    return resources, faiss.index_cpu_to_gpu(resources, device, index, options)


def _check_areas(footprints: Sequence[Footprints]) -> None:
    for shard, columns in enumerate(footprints):
        if (empty := np.flatnonzero(columns.area == 0)).size:
            raise BankError(
                sentence(
                    f"segment {int(columns.segment_id[empty[0]]):016x} of shard {shard}", "has no pixels in the frame",
                    expected="an area of at least 1", found="0", fix="rebuild the bank",
                )
            )  # fmt: skip


def _class_ranges(footprints: Sequence[Footprints]) -> tuple[npt.NDArray[np.uint16], Rows]:
    """The classes of a part, `(K,)`, and their rows in every shard, `(K, S, 2)`."""
    rows = [columns.class_rows() for columns in footprints]
    classes = sorted(set().union(*rows))
    ranges = np.array([[each.get(id, (0, 0)) for each in rows] for id in classes], np.int64)
    return np.array(classes, np.uint16), ranges


def _numbers(ranges: Rows, offsets: Rows) -> Rows:
    """The numbers of the segments of a class, ascending."""
    parts = [np.arange(a, b) + offset for (a, b), offset in zip(ranges, offsets, strict=False)]
    return np.concatenate(parts).astype(np.int64)


class _Source(NamedTuple):
    """The segments of a part by their numbers."""

    footprints: Sequence[Footprints]
    offsets: Rows
    cells: Partition

    def counts(self, numbers: Rows, classes: npt.NDArray[np.uint16]) -> Vectors:
        """Rooted counts of segments, whose numbers ascend."""
        ends = np.searchsorted(numbers, self.offsets)
        return np.concatenate(
            [
                count_segments(shard, numbers[a:b] - offset, self.cells, classes)
                for shard, offset, a, b in zip(self.footprints, self.offsets, ends[:-1], ends[1:], strict=False)
            ]
        )


class _Learnt(NamedTuple):
    """The projections, the vectors of the samples they were learnt from, and which projection each class has."""

    projections: Sequence[Projection]
    projection_of: Rows
    samples: Sequence[Vectors]


def _learn(source: _Source, numbers: Sequence[Rows], rng: np.random.Generator) -> _Learnt:
    """One projection for every large class, one for all the others together."""
    known = np.unique(np.concatenate([shard.region_class for shard in source.footprints]))
    known = known[known != VOID]
    large = [k for k, each in enumerate(numbers) if len(each) > LARGE]
    small = [k for k in range(len(numbers)) if k not in large]
    projections: list[Projection] = []
    samples: list[Vectors] = []
    projection_of = np.zeros(len(numbers), np.int64)
    for group in [[k] for k in large] + ([small] if small else []):
        pool = np.concatenate([numbers[k] for k in group])
        counts = source.counts(np.sort(rng.choice(pool, min(len(pool), _SAMPLE), replace=False)), known)
        chosen = commonest_classes(counts, len(known), source.cells, COUNTED)
        counts = keep_classes(counts, chosen, source.cells)
        projection_of[group] = len(projections)
        projections.append(fit_projection(counts, known[chosen], source.cells, DIM - 1))
        samples.append(projections[-1].embed(counts))
    return _Learnt(projections, projection_of, samples)


def _centroids(learnt: _Learnt, k: int, segments: int, seed: int) -> Vectors:
    """The centres of a class's lists, `(lists, DIM)`, of the norm of the vectors."""
    import faiss

    sample = learnt.samples[learnt.projection_of[k]]
    if segments <= LARGE:
        return np.zeros((1, DIM), np.float32)
    clusters = faiss.Kmeans(
        DIM, round(segments**0.5), niter=10, seed=seed + 1, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
    )  # fmt: skip
    clusters.train(sample)
    return np.asarray(clusters.centroids, np.float32)


def _empty_index(codes: str, centroids: Vectors) -> Any:
    """An inverted file with these centres, not trained yet."""
    import faiss

    quantizer: Any = faiss.IndexFlatIP(DIM)
    quantizer.add(centroids)
    lists, metric = len(centroids), faiss.METRIC_INNER_PRODUCT
    index: Any
    if codes == "flat":
        index = faiss.IndexIVFFlat(quantizer, DIM, lists, metric)
    elif codes == "sq8":
        index = faiss.IndexIVFScalarQuantizer(quantizer, DIM, lists, faiss.ScalarQuantizer.QT_8bit, metric, False)
    else:
        index = faiss.IndexIVFPQ(quantizer, DIM, lists, CODES["pq"], 8, metric)
        index.by_residual = False
    index.own_fields = True
    quantizer.this.disown()
    return index
