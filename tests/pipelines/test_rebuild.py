"""A rebuild takes everything in, the same however it is run, accounts for it, and refuses what makes no sense."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

sys.path.append(str(Path(__file__).parent))

from nights import Run, content, counts, ids, leftovers, night

from zeuxis.pipelines.planning import default_frame
from zeuxis.pipelines.rebuild import RebuildReport, rebuild
from zeuxis.storage import files
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import BankBusyError, BankError, DatasetError, InputError, NotABankError
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.manifest import generations, verify
from zeuxis.storage.reader import Reader
from zeuxis.storage.records import segment_id

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = [f"p{number:02}" for number in range(12)]


@pytest.fixture
def twelve(photos: Any) -> Any:
    photos.add(*NAMES)
    return photos


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def rebuild_bank(bank: Path) -> Run:
    """A night in this process."""

    def run(dataset: str | list[str], path: Path = bank, **options: Any) -> RebuildReport:
        return night(dataset, path, **options)

    return run


def test_everything_comes_in_and_pixels_are_the_sources_own(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    report = rebuild_bank(twelve.spec, frame=(24, 32), shard_size=5)
    assert counts(report) == (12, 12, 0, 0)
    assert (report.generation, report.published, report.bank) == (1, True, bank)
    reader = Reader(bank)
    assert len(reader.shards) == 3
    rows = reader.table("segments").to_pylist()
    assert report.segments == len(rows) == 12 * 5
    for row in rows:
        shard, _ = reader.find_segment(row["segment_id"])
        pixels, mask = (read(shard, row["segment_id"]) for read in (reader.segment_pixels, reader.segment_mask))
        name = row["source"].removeprefix("folder/")
        window = np.s_[row["crop_top"] : row["crop_bottom"], row["crop_left"] : row["crop_right"]]
        image, labels = np.array(Image.open(twelve.image(name))), np.array(Image.open(twelve.label(name)))
        assert np.array_equal(pixels, np.where(mask[..., None], image[window], 0))
        assert (labels[window][mask] == row["class_id"]).all()
        assert mask.sum() == row["pixels"]
    assert list(verify(bank, deep=True)) == []
    assert leftovers(bank) == []


def test_the_same_data_gives_the_same_bank_however_it_is_cut(
    rebuild_bank: Run, twelve: Any, tmp_path: Path, dask_address: str
) -> None:
    banks = [tmp_path / f"bank{number}" for number in range(3)]
    rebuild_bank(twelve.spec, banks[0])
    rebuild_bank(twelve.spec, banks[1], shard_size=1, workers=None, scheduler=dask_address)
    rebuild_bank(f"folder:{twelve.root}/../photos", banks[2], shard_size=7, workers=1)
    assert len({content(bank) for bank in banks}) == 1
    assert ids(banks[0]) == ids(banks[1]) == ids(banks[2])
    shards = [{path.name for path in (bank / "shards").iterdir()} for bank in banks]
    assert [len(names) for names in shards] == [1, 12, 2]
    rebuild_bank(twelve.spec, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again/shards").iterdir()} == shards[0]


def test_the_golden_layouts_give_the_golden_segments(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    golden, layouts = json.loads((GOLDEN / "retrieval.json").read_text()), np.load(GOLDEN / "retrieval.npz")
    names = [name for name in layouts if name.startswith("bank_")]
    for name in names:
        photos.add(name, labels=np.where(layouts[name] == VOID, 255, layouts[name]).astype(np.uint8))
    report = rebuild_bank(photos.spec, frame=tuple(map(int, golden["frame"])), min_area=golden["min_area"])
    assert (counts(report), report.segments) == ((40, 40, 0, 0), golden["segments"])
    segments = {
        (int(row["source"][-2:]), row["class_id"], row["top"], row["left"], row["bottom"], row["right"], row["area"])
        for row in Reader(bank).table("segments").to_pylist()
    }
    hits = [(component, hit) for component in golden["components"] for hit in component["hits"]]
    for component, hit in hits:
        common, union = hit["mask"]
        area = common + union - component["area"]
        assert (hit["source"], component["class_id"], *hit["box"], area) in segments
    assert len(hits) > 400


@pytest.mark.parametrize(
    ("sizes", "frame"),
    [
        ([(480, 640)], (384, 512)),
        ([(360, 480), (480, 360), (480, 360)], (512, 384)),
        ([(1000, 3)], (512, 2)),
        ([(10, 20), (20, 10)], (256, 512)),
    ],
)
def test_the_default_frame_is_the_commonest_size_with_a_longer_side_of_512(
    sizes: list[tuple[int, int]], frame: tuple[int, int]
) -> None:
    assert default_frame(sizes) == frame


def test_the_default_frame_is_used_where_none_is_given(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    twelve.add("odd", labels=np.zeros((30, 30), np.uint8))
    rebuild_bank(twelve.spec, min_area=None, frame=None)
    assert Reader(bank).geometry == Geometry((384, 512), 64, False)


def test_a_source_with_nothing_but_small_components_counts(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a", labels=np.zeros((48, 64), np.uint8))
    photos.add("b", labels=np.kron(np.arange(8 * 8).reshape(8, 8) % 7, np.ones((4, 4))).astype(np.uint8))
    report = rebuild_bank(photos.spec, frame=(24, 32), min_area=100)
    assert (counts(report), report.segments) == ((2, 2, 0, 0), 1)
    row = Reader(bank).table("sources", {"source": "folder/b"}).to_pylist()[0]
    assert row["segments"] == 0
    assert row["components"] == row["small"] > 10


def test_progress_begins_before_the_workers_and_ends_with_all_done(rebuild_bank: Run, twelve: Any) -> None:
    told: list[tuple[int, int, str]] = []
    report = rebuild_bank(twelve.spec, progress=lambda *args: told.append(args), shard_size=3)
    assert told[0] == (0, 0, "listing the data sets")
    begun = told.index((0, 12, "starting workers"))
    done = [args[0] for args in told[begun:] if "rejects" in args[2]]
    assert done == sorted(done)
    assert {0, 12} <= {*done, told[begun][0]}
    assert (12, 12, f"{report.segments} segments, 0 rejects") in told
    assert told[-2:] == [
        (12, 12, f"indexing {report.segments} segments"),
        (12, 12, f"indexing candidates among {report.segments} segments"),
    ]


# options and banks


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("frame", (7, 100)), ("frame", (96,)), ("min_area", 0), ("shard_size", 0), ("workers", -1),
        ("depth_rule", "sideways"), ("keep", 0),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused_before_anything_is_written(
    rebuild_bank: Run, photos: Any, bank: Path, option: str, value: Any
) -> None:
    photos.add("a")
    with pytest.raises(InputError, match=option):
        rebuild_bank(photos.spec, **{option: value})
    assert not bank.exists()


def test_an_edge_model_that_is_not_there_is_refused_and_no_reject(
    rebuild_bank: Run, photos: Any, tmp_path: Path, bank: Path
) -> None:
    photos.add("a", "b")
    with pytest.raises(InputError, match=r"model\.yml") as caught:
        rebuild_bank(photos.spec, patches=True, edge_model=tmp_path / "model.yml")
    assert not isinstance(caught.value, DatasetError), "it is not the sources' fault"
    assert generations(bank) == []


def test_join_thin_reaches_the_extraction(rebuild_bank: Run, photos: Any, tmp_path: Path) -> None:
    photos.root.mkdir()
    (photos.root / "classes.csv").write_text("id,name,thin\n0,wall,\n1,pole,yes\n")
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 30:33] = 1
    photos.add("a", labels=labels)
    for join, segments in ((False, 3), (True, 2)):
        assert rebuild_bank(photos.spec, tmp_path / str(join), join_thin=join).segments == segments


def test_a_bank_that_someone_else_writes_is_left_alone(rebuild_bank: Run, twelve: Any, bank: Path) -> None:
    rebuild_bank(twelve.spec)
    twelve.add("z")
    with files.writer_lock(bank), pytest.raises(BankBusyError, match=f"process {os.getpid()}"):
        rebuild_bank(twelve.spec)
    assert generations(bank) == [1]
    assert counts(rebuild_bank(twelve.spec)) == (13, 1, 12, 0)


def test_a_folder_that_is_no_bank_is_left_alone(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a")
    bank.mkdir()
    (bank / "thesis.tex").write_text("precious")
    with pytest.raises(NotABankError, match=r"thesis\.tex"):
        rebuild_bank(photos.spec)
    assert [path.name for path in bank.iterdir()] == ["thesis.tex"]
    with pytest.raises(NotABankError, match="a file"):
        rebuild_bank(photos.spec, bank / "thesis.tex")


def test_a_bank_that_cannot_be_made_is_one_sentence(rebuild_bank: Run, photos: Any, tmp_path: Path) -> None:
    photos.add("a")
    (tmp_path / "file").write_text("")
    with pytest.raises(BankError, match="cannot be made"):
        rebuild_bank(photos.spec, tmp_path / "file/bank")


# real photographs


@pytest.mark.realdata
def test_a_dozen_nyu_photographs_equal_what_plain_means_find(
    real_data: Path, tmp_path: Path, bank: Path, dask_address: str
) -> None:
    root = tmp_path / "nyu"
    for folder, suffix in (("images", "jpg"), ("labels", "png"), ("depths", "png")):
        (root / folder).mkdir(parents=True)
        for number in range(0, 1200, 100):
            name = f"{number:04}.{suffix}"
            (root / folder / name).symlink_to(real_data / "nyu" / folder / name)
    report = rebuild(f"nyu:{root}", bank, patches=False, scheduler=dask_address, shard_size=5, report=False)
    assert counts(report) == (12, 12, 0, 0)
    reader = Reader(bank)
    assert reader.geometry == Geometry((384, 512), 64, False)
    rows = {row["segment_id"]: row for row in reader.table("segments").to_pylist()}
    hashes = {row["source"]: row["source_id"] for row in reader.table("sources").to_pylist()}
    expected = {}
    for source, source_id in hashes.items():
        name = source.removeprefix("nyu/")
        image = np.array(Image.open(root / "images" / f"{name}.jpg"))
        labels = np.array(Image.open(root / "labels" / f"{name}.png"))
        for class_id in set(np.unique(labels).tolist()) - {39}:
            components, count = ndimage.label(labels == class_id, np.ones((3, 3)))
            framed = cv2.resize(components.astype(np.float32), (512, 384), interpolation=cv2.INTER_NEAREST_EXACT)
            areas = np.bincount(framed.astype(int).ravel(), minlength=count + 1)
            for component in range(1, count + 1):
                if areas[component] >= 64:
                    here = components == component
                    id = segment_id(source_id, reader.classes[class_id].name, int(np.flatnonzero(here)[0]))
                    expected[id] = (source, class_id, areas[component])
                    if component == 1:
                        shard, _ = reader.find_segment(id)
                        inside = reader.segment_mask(shard, id)
                        assert np.array_equal(reader.segment_pixels(shard, id)[inside], image[here])
    assert {id: (row["source"], row["class_id"], row["area"]) for id, row in rows.items()} == expected
    assert len(expected) > 100
