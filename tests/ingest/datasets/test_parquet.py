"""Parquet files with pictures in their cells: columns, rows that are rejects, reading a few rows at a time."""

import io
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import published_more as published
from published_more import IMAGE, encoded, parquet, photograph, put, table

from zeuxis.ingest.datasets.parquet import BATCH_ROWS, ParquetImages, open_parquet
from zeuxis.storage.errors import DatasetError, SourceError


def faults(path: Path, **options: str) -> dict[str, str]:
    """Name to reason of every reject that the listing shows."""
    return {ref.name: ref.fault[0] for ref in open_parquet(path, **options).sources() if ref.fault}


def reason(path: Path, row: int = 0) -> str:
    dataset = open_parquet(path)
    with pytest.raises(SourceError) as caught:
        dataset.read(dataset.sources()[row])
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


# columns


def test_rows_are_sources_named_by_file_and_row(tmp_path: Path) -> None:
    parquet(tmp_path / "data/train-00000-of-00001.parquet", table())
    parquet(tmp_path / "data/validation-00000-of-00001.parquet", table(1))
    dataset = open_parquet(tmp_path)
    refs = dataset.sources()
    assert [ref.name for ref in refs[::5]] == [
        "data/train-00000-of-00001/000000", "data/validation-00000-of-00001/000000",
    ]  # fmt: skip
    assert {ref.split for ref in refs[:5]} == {"train"}
    assert refs[5].split == "val"
    assert refs[3].layout == "data/train-00000-of-00001.parquet/3/annotation"
    encoded_source = dataset.read(refs[3])
    assert encoded_source.image == encoded(photograph(3), "JPEG")
    assert dataset.decode(refs[3], encoded_source).layout.shape == published.SIZE
    assert refs[3].stamp == dataset.stamp(refs[3])


def test_columns_are_named_by_options(file: Path) -> None:
    labels = encoded(published.things_and_stuff())
    columns = {"photo_2": [encoded(photograph(1))], "truth": [labels], "far": [labels], "objects": [labels]}
    held = pa.table({name: pa.array(cells, pa.large_binary()) for name, cells in columns.items()})
    parquet(file, held.append_column("key", [["a/b"]]).append_column("part", [["dev"]]).append_column("scene", [[7]]))
    options = {
        "image": "photo_2", "labels": "truth", "depth": "far", "instances": "objects", "name": "key", "split": "part",
        "group": "scene",
    }  # fmt: skip
    dataset = open_parquet(file, **options)
    (ref,) = dataset.sources()
    assert (ref.name, ref.split, ref.group) == ("a/b", "val", "7")
    found = dataset.read(ref)
    assert (found.image, found.layout, found.depth, found.instances) == (*(c[0] for c in columns.values()),)


def test_photographs_alone_are_taken_where_that_is_said(file: Path) -> None:
    parquet(file, table(2).drop_columns(["annotation"]))
    with pytest.raises(DatasetError, match="labels=none"):
        open_parquet(file).sources()
    dataset = open_parquet(file, labels="none")
    assert isinstance(dataset, ParquetImages)
    assert dataset.read(dataset.sources()[1]).layout is None


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"image": pa.array([1])}, {}, "found none, but image"),
        ({"image": pa.array([b""]), "img": pa.array([b""])}, {}, "found image, img"),
        ({"image": pa.array([b""]), "mask": pa.array([b""]), "seg": pa.array([b""])}, {}, "one column of label maps"),
        ({"image": pa.array([b""]), "mask": pa.array([b""])}, {"depth": "far"}, "one column of depth"),
        ({"image": pa.array([b""]), "mask": pa.array([b""])}, {"group": "scene"}, "no column scene"),
    ],
)
def test_columns_that_are_unclear_are_refused_and_never_guessed(
    file: Path, columns: dict[str, pa.Array], options: dict[str, str], words: str
) -> None:
    parquet(file, pa.table(columns))
    with pytest.raises(DatasetError, match=words):
        open_parquet(file, **options).sources()


# rejects


def test_rows_without_name_split_or_bytes_are_rejects(tmp_path: Path, file: Path) -> None:
    cells = [{"bytes": encoded(photograph(1)), "path": None}] * 4 + [{"bytes": None, "path": None}, None]
    names = ["a", "a", None, "new\nline", "e", "f"]
    splits = ["train", "test", "val", "test", "somewhere", None]
    parquet(file, table(6, image=pa.array(cells, IMAGE), key=names, split=splits))
    assert faults(file, name="key") == {
        "a": "duplicate-name", "000002": "unreadable-name", "000003": "unreadable-name", "e": "unknown-split",
    }  # fmt: skip
    assert reason(parquet(tmp_path / "b.parquet", table(6, image=pa.array(cells, IMAGE))), 4) == "missing-image"
    assert reason(tmp_path / "b.parquet", 5) == "missing-image"
    gaps = pa.array([None, b"x"], pa.binary())
    assert reason(parquet(tmp_path / "c.parquet", table(2, annotation=gaps)), 0) == "missing-label"


def test_the_unit_of_depth_arrays_is_never_guessed(file: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.full(published.SIZE, 2.5, np.float32))
    parquet(file, table(1, depth=pa.array([buffer.getvalue()])))
    assert reason(file) == "unknown-unit"
    dataset = open_parquet(file, metres_per_unit="1")
    (ref,) = dataset.sources()
    assert dataset.decode(ref, dataset.read(ref)).depth.max() == 2.5


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../outside.jpg", "in/../../outside.jpg", "link.jpg", "pipe:id", "http://x/y", "a\nb", "C:\\x"],
)
def test_paths_in_cells_are_never_followed_out_of_the_folder(tmp_path: Path, path: str) -> None:
    put(tmp_path / "outside.jpg", photograph(1))
    put(tmp_path / "data/in/inside.jpg", photograph(2))
    (tmp_path / "data/link.jpg").symlink_to(tmp_path / "outside.jpg")
    cells = pa.array([{"bytes": None, "path": path}, {"bytes": None, "path": "in/inside.jpg"}], IMAGE)
    file = parquet(tmp_path / "data/a.parquet", table(2, image=cells))
    assert reason(file) == "unsafe-name"
    dataset = open_parquet(file)
    assert dataset.read(dataset.sources()[1]).image == (tmp_path / "data/in/inside.jpg").read_bytes()


def test_damaged_files_are_rejects_of_their_own(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "whole.parquet", table(2)).read_bytes()
    put(tmp_path / "cut.parquet", whole[:-100])
    put(tmp_path / "empty.parquet", b"")
    put(tmp_path / "other.parquet", b"PAR1 no file PAR1")
    assert faults(tmp_path) == dict.fromkeys(["cut.parquet", "empty.parquet", "other.parquet"], "damaged-shard")
    assert len(open_parquet(tmp_path).sources()) == 5


def test_a_flipped_bit_in_a_page_is_a_reject(file: Path) -> None:
    parquet(file, table(1))
    data = bytearray(file.read_bytes())
    data[pq.ParquetFile(file).metadata.row_group(0).column(0).dictionary_page_offset + 300] ^= 1
    file.write_bytes(data)
    assert reason(file) == "unreadable-file"


def test_row_groups_that_unpack_to_too_much_are_refused_by_the_footer(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet(file, table(2, huge=pa.array([b"0" * 5_000_000] * 2)))
    dataset = open_parquet(file)
    monkeypatch.setattr("zeuxis.ingest.datasets.parquet.MAX_GROUP_BYTES", 1 << 20)
    dataset.read(dataset.sources()[0])  # other columns are not read, whatever is in them
    monkeypatch.setattr("zeuxis.ingest.datasets.parquet.MAX_GROUP_BYTES", 1 << 9)
    assert reason(file) == "too-large"


# reading


def test_any_row_is_read_in_any_order_by_any_thread(tmp_path: Path) -> None:
    count = 3 * BATCH_ROWS
    for name in ("a", "b"):
        parquet(tmp_path / f"{name}.parquet", table(count), rows_a_group=BATCH_ROWS + 5)
    dataset = open_parquet(tmp_path)
    refs = dataset.sources()
    expected = [encoded(photograph(row), "JPEG") for row in range(count)] * 2
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns all the time
    try:
        with ThreadPoolExecutor(8) as threads:
            assert [found.image for found in threads.map(dataset.read, refs)] == expected
    finally:
        sys.setswitchinterval(interval)
    assert [dataset.read(ref).image for ref in reversed(refs)] == expected[::-1]


def test_rows_nearly_in_order_are_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(file, table(50), rows_a_group=25)
    monkeypatch.setattr("zeuxis.ingest.datasets.parquet.BATCH_ROWS", 4)
    dataset = open_parquet(file)
    entered = []
    iter_batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda self, *a, **k: entered.append(a[1]) or iter_batches(self, *a, **k)
    )
    refs = dataset.sources()
    for at in range(0, 50, 5):  # as a few threads ask for them: a little out of order
        for ref in reversed(refs[at : at + 5]):
            dataset.read(ref)
    assert entered == [[0], [1]]


def test_listing_reads_no_picture(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(file, table(5, split=["train"] * 5))
    read = []
    original = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, c, **k: read.extend(c) or original(self, c, **k))
    assert len(open_parquet(file).sources()) == 5
    assert read == ["split"]


def test_a_worker_reads_what_the_driver_listed_and_notices_a_change(file: Path) -> None:
    parquet(file, table(3))
    dataset = open_parquet(file)
    refs = dataset.sources()
    dataset.read(refs[0])
    worker = pickle.loads(pickle.dumps(dataset))
    assert worker.read(pickle.loads(pickle.dumps(refs[2]))) == dataset.read(refs[2])
    parquet(file, table(2))
    fresh = pickle.loads(pickle.dumps(dataset))
    with pytest.raises(SourceError) as caught:
        fresh.read(refs[0])
    assert caught.value.reason == "changed"
