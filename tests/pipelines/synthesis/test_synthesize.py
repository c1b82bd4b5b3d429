"""Batch synthesis: what comes out, that it is what was painted, and that nothing held out is in it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.conftest import blocks
from tests.pipelines.synthesis.conftest import picture, tree, write_layouts
from tests.pipelines.tiny_models import SIZE, save_models
from zeuxis.index.request import as_layout
from zeuxis.ingest.datasets import open_dataset
from zeuxis.pipelines import painting_steps, recomposition
from zeuxis.pipelines.inpainting.regions import grown
from zeuxis.pipelines.paint import Painter
from zeuxis.pipelines.painting_steps import Stages
from zeuxis.pipelines.synthesis import plan, samples
from zeuxis.pipelines.synthesis.guard import Guard, Used
from zeuxis.pipelines.synthesis.layouts import Layouts
from zeuxis.pipelines.synthesis.line import ENCODE, NETWORK, PREPARE, Rate, bottleneck
from zeuxis.pipelines.synthesis.options import SynthesisOptions
from zeuxis.pipelines.synthesis.plan import Plan
from zeuxis.pipelines.synthesis.session import Session
from zeuxis.pipelines.synthesis.synthesize import synthesize
from zeuxis.pipelines.synthesis.units import Units
from zeuxis.storage.errors import InputError, LeakError, UnfinishedError, ZeuxisError
from zeuxis.storage.reader import Reader
from zeuxis.synth.encoding import resized

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def reader(home: Path) -> Reader:
    return Reader(home / "bank")


def provenance(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "provenance").iterdir()) for row in pq.read_table(path).to_pylist()]


def images(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(path.read_text()) for path in sorted((out / "units").glob("?????.json"))]
    return [image for record in records for image in record["images"]]


def shown(out: Path, kind: str) -> dict[str, np.ndarray]:
    return {path.stem: picture(path) for path in sorted((out / kind).rglob("*.png"))}


# ---- what comes out


def test_a_folder_of_layouts_becomes_a_data_set(make: Make, home: Path, reader: Reader, tmp_path: Path):
    report = make(variants=2, dataset="folder")
    assert (report.images, report.made, report.rejected) == (10, 10, 0)
    out = tmp_path / "out"
    labels, instances, native = (shown(out, kind) for kind in ("labels", "instances", "native"))
    for number, (name, image) in enumerate(shown(out, "images").items()):
        layout = resized(as_layout(home / "layouts" / f"{number // 2}.png", reader), SIZE)
        assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
        assert np.array_equal(labels[name], np.where(layout == 65535, 255, layout))
        assert np.array_equal(labels[name], native[name])
        assert np.array_equal(instances[name] > 0, np.isin(layout, (2, 3)))
        assert image.std() > 5
    dataset = open_dataset(f"folder:{out}")
    refs = dataset.sources()
    assert len(refs) == 10
    assert {ref.split for ref in refs} == {"train"}
    assert len({ref.group for ref in refs}) == 5  # variants of a layout stay together
    layout = dataset.decoding.layout((out / refs[0].layout).read_bytes(), "label")
    assert [entry.name for entry in dataset.decoding.classes] == ["sky", "ground", "car", "sign"]
    assert (layout == 65535).any()


def test_images_are_those_that_paint_makes(make: Make, home: Path, tmp_path: Path):
    make(variants=2, seed=4, transform="network", order="network")
    from zeuxis.index.retriever import Retriever

    reader = Reader(home / "bank")
    painter = Painter(reader, Retriever(reader), home / "models")
    paths = sorted((home / "layouts").iterdir())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    painted = [each for images in painter.paint_many(paths, 2, 4, guard=True) for each in images]
    torch.set_num_threads(threads)
    assert all(map(np.array_equal, shown(tmp_path / "out", "images").values(), (each.image for each in painted)))


def test_canvases_are_filled_for_a_network_that_learned_so(home: Path, tmp_path: Path):
    from zeuxis.index.retriever import Retriever

    models = save_models(tmp_path / "models", home / "bank", "synthesis", passing=True, filled=True)
    synthesize(
        home / "bank", models, tmp_path / "out", home / "layouts", transform="analytic", order="classes", workers=1
    )
    reader = Reader(home / "bank")
    painter = Painter(reader, Retriever(reader), models)
    stages = Stages("analytic", "classes")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    paths = sorted((home / "layouts").iterdir())
    painted = [each for images in painter.paint_many(paths, guard=True, stages=stages) for each in images]
    torch.set_num_threads(threads)
    assert not all(each.valid.all() for each in painted)
    assert all(map(np.array_equal, shown(tmp_path / "out", "images").values(), (each.image for each in painted)))


def test_without_a_folder_the_banks_own_layouts_are_painted_from_other_groups(make: Make, tmp_path: Path):
    report = make(layouts=None)
    assert report.images == 6
    made = images(tmp_path / "out")
    assert [image["layout"] for image in made] == [f"folder/{name}" for name in "abcdef"]
    groups = {image["name"]: image["group"] for image in made}
    rows = [row for row in provenance(tmp_path / "out") if row["use"] == "segment"]
    assert rows
    assert all(row["group"] != groups[row["name"]] for row in rows)


def test_layouts_of_val_are_painted_from_train_and_stay_val(make: Make, tmp_path: Path):
    report = make(layouts=None, from_bank="val", format="webdataset")
    assert report.images == 1
    rows = provenance(tmp_path / "out")
    assert {row["split"] for row in rows if row["use"] != "layout"} == {"train"}
    assert {(row["use"], row["split"]) for row in rows if row["source"] == "folder/g"} == {("layout", "val")}
    (ref,) = open_dataset(f"tar:{tmp_path / 'out'}").sources()
    assert ref.split == "val"


def test_every_source_stands_with_its_licence(make: Make, tmp_path: Path):
    make()
    rows = provenance(tmp_path / "out")
    assert {row["licence"] for row in rows} == {"CC-BY-4.0"}
    assert all(len(row["segment"]) == 16 and row["pixels"] >= 0 for row in rows)
    assert all(image["licences"] == ["CC-BY-4.0"] for image in images(tmp_path / "out"))
    (told,) = json.loads((tmp_path / "out/licences.json").read_text())["licences"]
    assert (told["licence"], told["images"]) == ("CC-BY-4.0", 5)
    assert told["sources"] == sorted({row["source"] for row in rows})


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_shards_are_read_back_as_data_sets(make: Make, tmp_path: Path, format: str):
    make("plain")
    make(format=format)
    out = tmp_path / "out"
    kind = {"webdataset": "tar", "parquet": "parquet"}[format]
    dataset = open_dataset(f"{kind}:{out}/train-{{00000..00001}}.{kind}")
    refs = dataset.sources()
    assert len(refs) == 5
    plain = {which: shown(tmp_path / "plain", which) for which in ("images", "labels", "instances")}
    for ref, name in zip(refs, plain["images"], strict=True):
        source = dataset.read(ref)
        for which, data in (("images", source.image), ("labels", source.layout), ("instances", source.instances)):
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), plain[which][name])


def test_no_times_owners_or_paths_are_in_a_shard(make: Make, tmp_path: Path, home: Path):
    import tarfile

    make(format="webdataset")
    with tarfile.open(tmp_path / "out/train-00000.tar") as shard:
        members = shard.getmembers()
    assert {(each.mtime, each.uid, each.gid, each.uname, each.gname) for each in members} == {(0, 0, 0, "", "")}
    for name, data in tree(tmp_path / "out").items():
        assert str(tmp_path).encode() not in data, name
        assert str(home).encode() not in data, name


def test_coco_annotates_what_is_seen_and_nothing_else(make: Make, tmp_path: Path):
    from pycocotools.coco import COCO

    make(coco=True)
    out = tmp_path / "out"
    coco = COCO(out / "annotations.json")
    labels, instances = shown(out, "labels"), shown(out, "instances")
    assert len(coco.imgs) == 5
    for id, image in coco.imgs.items():
        label, things = labels[Path(image["file_name"]).stem], instances[Path(image["file_name"]).stem]
        drawn, times = np.full(SIZE, 255), np.zeros(SIZE, int)
        found = coco.loadAnns(coco.getAnnIds([id]))
        for annotation in found:
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum() > 0
            rows, cols = np.nonzero(mask)
            box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
            assert annotation["bbox"] == box
            drawn[mask] = annotation["category_id"]
            times += mask
        assert np.array_equal(drawn, label)
        assert np.array_equal(times, label != 255)
        countable = [each for each in found if coco.cats[each["category_id"]]["isthing"]]
        assert len(countable) == len(np.unique(things[things > 0]))
        assert (out / image["file_name"]).is_file()


# ---- real photographs, boosts, limits


def test_a_share_of_real_photographs_is_kept(make: Make, tmp_path: Path, reader: Reader):
    report = make(variants=2, keep_real=0.2, limit=10, seed=3)
    assert report.images == 10
    real = [row for row in provenance(tmp_path / "out") if row["use"] == "photograph"]
    assert len(real) == len({row["source"] for row in real}) == 2
    assert {row["split"] for row in real} == {"train"}
    for row in real:
        photograph = cv2.resize(reader.photograph(row["source"]), SIZE[::-1], interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(shown(tmp_path / "out", "images")[row["name"]], photograph)
        layout = resized(reader.layout(row["source"]), SIZE)
        assert np.array_equal(shown(tmp_path / "out", "labels")[row["name"]], np.where(layout == 65535, 255, layout))
    report = make("other", keep_real=0.9)
    assert report.images == 5 + 6  # and no more: that is all there are
    assert any("no more than 6 photographs" in said for said in report.warnings)


def test_a_boosted_class_is_in_more_of_the_layouts(make: Make, tmp_path: Path):
    layouts = write_layouts(tmp_path / "layouts", 8)
    for seed in range(6):  # all but two have no car
        layout = blocks(np.random.default_rng(seed))
        layout[layout == 2] = 0
        Image.fromarray(layout).save(layouts / f"{seed}.png")
    taken = {}
    for factor in (1, 6):
        make(f"by {factor}", layouts=layouts, boost={"car": factor})
        taken[factor] = Counter(image["layout"] for image in images(tmp_path / f"by {factor}"))
    assert set(taken[1].values()) == {1}
    assert taken[6]["6.png"] + taken[6]["7.png"] > 4
    assert sum(taken[6].values()) == 8
    again = [image for image in images(tmp_path / "by 6") if image["layout"] == "6.png"]
    assert [image["variant"] for image in again] == list(range(len(again)))
    with pytest.raises(InputError, match="tram"):
        make("none", boost={"tram": 2})
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="no layout holds any car"):
        make("none", layouts=write_uniform(tmp_path / "sky"), boost={"car": 2})


@pytest.mark.parametrize("boost", [{"ground": 0.2, "sky": 0.2}, {"ground": 0.01, "car": 0.01, "sky": 0.01}])
def test_factors_below_one_leave_every_layout_a_chance(home: Path, reader: Reader, boost: dict[str, float]):
    options = SynthesisOptions(boost=boost)
    weights = plan._weights(reader, Layouts(reader, options, sorted((home / "layouts").iterdir())), options)
    assert weights is not None
    assert (weights > 0).all()


def test_weights_follow_what_layouts_hold(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    amounts = np.array([[0.0, 0.0], [0.1, 0.0], [0.3, 0.2]])
    monkeypatch.setattr(Layouts, "amounts", lambda self, ids: amounts[:, : len(ids)])

    def weights(**boost: float) -> list[float]:
        options = SynthesisOptions(boost=boost)
        found = plan._weights(reader, Layouts(reader, options, None), options)
        assert found is not None
        return found.tolist()

    monkeypatch.setattr(Layouts, "_listed", lambda self: [None] * 3)
    assert weights(car=3) == pytest.approx([1, 1 + 2 * 0.5, 1 + 2 * 1.5])
    assert weights(car=1 / 3) == pytest.approx([1, 1 / 2, 1 / 4])
    assert weights(car=3, sign=0.5) == pytest.approx([1, 2, 4 / 2])


def write_uniform(folder: Path) -> Path:
    folder.mkdir()
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(folder / "sky.png")
    return folder


def test_a_limit_is_kept_and_spread(make: Make, tmp_path: Path):
    assert make(variants=2, limit=5).images == 5
    made = [(image["layout"], image["variant"]) for image in images(tmp_path / "out")]
    assert len(set(made)) == 5
    assert made[0][0] < made[-1][0]


@pytest.mark.parametrize(("limit", "share", "real"), [(5, 0.95, 5), (1, 0.6, 1), (4, 0.7, 3), (3, 0.1, 0)])
def test_what_a_limit_leaves_of_a_share_is_made(make: Make, tmp_path: Path, limit: int, share: float, real: int):
    assert make(limit=limit, keep_real=share).images == limit
    found = Plan.load(tmp_path / "out")
    assert found is not None
    assert len(found.real) == real


# ---- recomposed layouts


@dataclass(frozen=True)
class FakeEdit:
    kind: str
    source: str | None


@dataclass
class FakeRecomposer:
    """Mirrors layouts and says that it took a car from somewhere."""

    reader: Reader
    split: str = "train"
    boost: Any = None
    erased: Any = ()
    exclude: Any = ()
    source = "folder/c"

    def lacking(self) -> list[str]:
        return []

    def recompose(
        self, layout: np.ndarray, random: np.random.Generator, group: str | None = None, source: str | None = None
    ) -> Any:
        @dataclass(frozen=True)
        class Recomposed:
            layout: np.ndarray
            instances: np.ndarray
            edits: tuple[FakeEdit, ...]

        assert self.split == "train"
        flipped = np.roll(layout[:, ::-1], int(random.integers(layout.shape[1])), axis=1)
        instances = (np.isin(flipped, (2, 3)) * (flipped - 1)).astype(np.uint16)
        return Recomposed(flipped, instances, (FakeEdit("added", self.source), FakeEdit("removed", None)))


def test_each_image_gets_a_layout_of_its_own(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("zeuxis.pipelines.synthesis.composer.Recomposer", FakeRecomposer)
    assert make(recompose=True, variants=2, boost={"car": 2.0}).images == 10
    out = tmp_path / "out"
    assert len({label.tobytes() for label in shown(out, "labels").values()}) == 10
    for name, label in shown(out, "labels").items():
        assert np.array_equal(shown(out, "instances")[name], np.isin(label, (2, 3)) * (label - 1))
    assert {row["source"] for row in provenance(out) if row["use"] == "object"} == {"folder/c"}
    assert images(out)[0]["edits"][0] == {"kind": "added", "source": "folder/c"}
    monkeypatch.setattr(FakeRecomposer, "source", "folder/g")
    with pytest.raises(LeakError, match="object of folder/g, of val"):
        make("leak", recompose=True)


def test_layouts_are_recomposed_for_real(make: Make, tmp_path: Path):
    first, again = (make(name, layouts=None, recompose=True, variants=3, limit=8, seed=1) for name in ("out", "again"))
    assert first.images == again.images == 8
    assert tree(tmp_path / "out") == tree(tmp_path / "again")
    assert {row["split"] for row in provenance(tmp_path / "out")} == {"train"}
    assert any(image["edits"] for image in images(tmp_path / "out"))
    with pytest.raises(InputError, match="sky"):
        make("stuff", recompose=True, boost={"sky": 2.0})
    assert not (tmp_path / "stuff").exists()


@pytest.mark.parametrize("how", [{"recompose": True}, {"generated": 3, "layouts": None}], ids=str)
def test_what_cannot_be_put_in_is_not_boosted(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
):
    with pytest.raises(InputError, match="--where leaves no car to show"):
        make(boost={"sign": 2, "car": 2}, where="class_name != 'car'", **how)
    honest = recomposition.read_objects

    def few_cars(reader: Reader, split: str) -> Any:
        objects = honest(reader, split)
        carless = objects.source == len(objects.sources) - 1  # an object a member: nothing here carries another
        return replace(objects, of=np.where(carless & (objects.of == 2), 3, objects.of))

    monkeypatch.setattr(recomposition, "read_objects", few_cars)
    with pytest.raises(InputError, match="no car can be put into layouts"):
        make(boost={"sign": 2, "car": 2}, exclude=("folder/street", "folder/c", "folder/d", "folder/e"), **how)
    assert not (tmp_path / "out").exists()


def test_layouts_of_nobody_are_generated(make: Make, tmp_path: Path):
    first, again = (make(name, layouts=None, generated=3, variants=2, seed=1) for name in ("out", "again"))
    assert first.images == again.images == 6
    assert tree(tmp_path / "out") == tree(tmp_path / "again")
    labels = [label.tobytes() for label in shown(tmp_path / "out", "labels").values()]
    assert labels[::2] == labels[1::2]  # two variants of each
    assert len(set(labels)) > 1
    assert {image["layout"] for image in images(tmp_path / "out")} == {f"generated-{n:07d}" for n in range(3)}
    rows = provenance(tmp_path / "out")
    for image in images(tmp_path / "out"):  # nothing but stuff's labels is of the photograph that lends these
        (lent,) = (edit["source"] for edit in image["edits"] if edit["kind"] == "background")
        own = [row for row in rows if row["name"] == image["name"]]
        assert [row["source"] for row in own if row["use"] == "layout"] == [lent]
        assert image["group"] not in {row["group"] for row in own if row["use"] != "layout"}


@pytest.mark.parametrize("recompose", [False, True])
def test_nothing_is_left_of_what_is_erased(make: Make, home: Path, tmp_path: Path, recompose: bool):
    make("out", layouts=None, recompose=recompose, variants=2)
    make("erased", layouts=None, recompose=recompose, variants=2, erase=("car",))
    car = next(entry.id for entry in Reader(home / "bank").classes if entry.name == "car")
    with_cars, without = (shown(tmp_path / name, "labels").values() for name in ("out", "erased"))
    assert any((label == car).any() for label in with_cars)
    assert not any((label == car).any() for label in without)
    assert any(edit["kind"] == "removed" for image in images(tmp_path / "erased") for edit in image["edits"])
    assert "car" not in {row["class"] for row in provenance(tmp_path / "erased")}


def test_photographs_are_filled_where_something_was_erased(make: Make, home: Path, tmp_path: Path, reader: Reader):
    models = tmp_path / "models"
    shutil.copytree(home / "models", models)
    save_models(models, home / "bank", "roi", size=(64, 64))
    made = [synthesize(home / "bank", models, tmp_path / name, shard=3, transform="analytic", order="classes",
                       keep_real=0.5, erase=("car",)) for name in ("out", "again")]  # fmt: skip
    assert not made[0].rejected
    assert tree(tmp_path / "out") == tree(tmp_path / "again")
    kept = [image for image in images(tmp_path / "out") if image.get("filled")]
    assert kept
    car = next(entry.id for entry in reader.classes if entry.name == "car")
    for image in kept:
        filled = shown(tmp_path / "out", "images")[image["name"]]
        label = shown(tmp_path / "out", "labels")[image["name"]]
        size = filled.shape[1::-1]
        real = cv2.resize(reader.photograph(image["layout"]), size, interpolation=cv2.INTER_LINEAR)
        gone = grown(resized(reader.layout(image["layout"]), label.shape) == car)
        assert not (label == car).any()
        assert np.array_equal(filled[~grown(gone)], real[~grown(gone)])
        assert (filled[gone] != real[gone]).mean() > 0.5


# ---- guards


def test_the_guard_knows_splits_and_groups(reader: Reader):
    guard = Guard(reader)
    guard.check("1", [Used("segment", "folder/a"), Used("layout", "folder/g")], "folder/alley")
    for use, source, group in (
        ("segment", "folder/g", None),
        ("object", "folder/h", None),
        ("photograph", "folder/g", None),
        ("segment", "folder/nobody", None),
        ("segment", "folder/b", "folder/street"),
    ):
        with pytest.raises(LeakError, match=source):
            guard.check("1", [Used("segment", "folder/c"), Used(use, source)], group)
    with pytest.raises(LeakError, match="own source"):
        guard.check("1", [Used("segment", "folder/c")], None, "folder/c")


def test_without_elision_more_of_the_bank_is_seen(make: Make, tmp_path: Path):
    make("elided", limit=3)
    make("whole", limit=3, elision=False)
    shares = [[image["share"] for image in images(tmp_path / name)] for name in ("elided", "whole")]
    assert all(less < more for less, more in zip(*shares, strict=True))


@pytest.mark.parametrize("recompose", [False, True])
@pytest.mark.parametrize("apart", ["source", "nothing"])
def test_images_may_have_segments_of_their_own_group_or_source(
    make: Make, tmp_path: Path, reader: Reader, apart: str, recompose: bool
):
    make("out", layouts=None, apart=apart, recompose=recompose, variants=6, k=12)
    groups = {row["source"]: row["group"] for row in reader.table("sources", columns=["source", "group"]).to_pylist()}
    rows = provenance(tmp_path / "out")
    layouts = {row["name"]: row["source"] for row in rows if row["use"] == "layout"}
    pairs = {(row["source"], layouts[row["name"]]) for row in rows if row["use"] in ("segment", "object")}
    assert any(groups[source] == groups[layout] for source, layout in pairs if source != layout), "none by default"
    assert any(source == layout for source, layout in pairs) == (apart == "nothing")


def test_an_image_that_breaks_the_guard_is_an_error(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    honest = Painter.run
    monkeypatch.setattr(
        Painter,
        "run",
        lambda self, *a, **options: honest(self, *a, **options | {"guard": False, "where": "split = 'val'"}),
    )
    with pytest.raises(LeakError, match="of val"):
        make()
    assert not list((tmp_path / "out/units").glob("*")) if (tmp_path / "out/units").exists() else True


def test_a_bank_without_train_has_nothing_to_give(make: Make, tmp_path: Path):
    with pytest.raises(InputError, match="no segment of train"):
        make(where="split = 'val'")
    assert not (tmp_path / "out").exists()


def test_the_label_that_is_saved_is_the_one_that_was_painted(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honest = painting_steps.synthesised

    def painted_something_else(model: Any, layouts: Any, *rest: Any) -> Any:
        for layout in layouts:
            layout[0, 0] ^= 1
        return honest(model, layouts, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(painting_steps, "synthesised", painted_something_else)
        with pytest.raises(ZeuxisError, match="not the one that was painted"):
            make()
    monkeypatch.setattr(samples.Form, "write", lambda self, layout: samples.png(np.zeros((48, 64), np.uint8), 1))
    with pytest.raises(ZeuxisError, match="a label of"):
        make()
    monkeypatch.setattr(samples.Form, "write", lambda self, layout: samples.png(np.zeros(SIZE, np.uint8), 1))
    with pytest.raises(ZeuxisError, match="not the one that was painted"):
        make()


def test_a_label_in_native_ids_says_the_same(make: Make, monkeypatch: pytest.MonkeyPatch):
    honest = samples.native_form

    def shifted(dataset: Any) -> samples.Form:
        form = honest(dataset)
        return form._replace(table=np.where(form.table == 2, 3, form.table).astype(np.uint16))

    monkeypatch.setattr(samples, "native_form", shifted)
    with pytest.raises(ZeuxisError, match="native ids is not the one that was painted"):
        make(dataset="folder")


def test_classes_that_a_data_set_lacks_are_void_in_its_ids():
    form = samples.Form(np.zeros(65536, np.uint16), np.array([1, 4, 65535], np.uint16), 2)
    samples.check_native("1", np.array([[1, 4, 7, 65535]]), np.array([[1, 4, 65535, 65535]]), form)
    for native in ([[1, 4, 7, 65535]], [[1, 1, 65535, 65535]], [[1, 65535, 65535, 65535]]):
        with pytest.raises(ZeuxisError, match="native ids"):
            samples.check_native("1", np.array([[1, 4, 7, 65535]]), np.array(native), form)


def test_what_is_hidden_is_not_annotated(reader: Reader):
    layout = np.zeros((4, 4), np.uint16)
    layout[0, 0] = 2
    seen = (layout == 2).astype(np.uint16)
    samples.check_instances("1", layout, seen, reader.classes)
    for wrong in (np.ones((4, 4)), np.array([[1, 1, 0, 0]] * 4), np.ones((2, 2))):
        with pytest.raises(ZeuxisError):
            samples.check_instances("1", layout, wrong.astype(np.uint16), reader.classes)
    layout[1, 1] = 3
    with pytest.raises(ZeuxisError, match="something else"):
        samples.check_instances("1", layout, (layout > 0).astype(np.uint16), reader.classes)


# ---- layouts that cannot be used


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Five layouts, of which three cannot be used."""
    layouts = write_layouts(tmp_path / "layouts", 5)
    strange = blocks(np.random.default_rng(1))
    strange[strange == 2] = 77
    Image.fromarray(strange).save(layouts / "1.png")
    (layouts / "2.png").write_bytes(b"no picture")
    Image.fromarray(blocks(np.random.default_rng(3))[:, :30]).save(layouts / "3.png")
    return layouts


def test_layouts_that_cannot_be_used_are_listed(make: Make, tmp_path: Path, bad: Path):
    report = make(layouts=bad, variants=2)
    assert (report.images, report.rejected) == (4, 6)
    rows = list(csv.DictReader((tmp_path / "out/rejects.csv").open()))
    assert [(row["layout"], row["reason"]) for row in rows[::2]] == [
        ("1.png", "unknown-id"), ("2.png", "unreadable-label"), ("3.png", "other-shape"),
    ]  # fmt: skip
    assert "77" in rows[0]["said"]
    assert [image["layout"] for image in images(tmp_path / "out")] == ["0.png"] * 2 + ["4.png"] * 2
    assert report.rejects == [row["said"] for row in rows[::2]]


def test_what_was_rejected_is_tried_again(make: Make, tmp_path: Path, bad: Path, home: Path):
    make(layouts=bad)
    kept = (tmp_path / "out/units/00001.json").stat().st_mtime_ns
    (bad / "1.png").write_bytes((home / "layouts/1.png").read_bytes())
    with pytest.raises(InputError, match="set of layouts differs"):
        make(layouts=bad)
    report = make(layouts=bad, retry="failed", shard=3)
    assert (report.made, report.images, report.rejected) == (3, 3, 2)
    make("fresh", layouts=bad)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")
    Image.fromarray(blocks(np.random.default_rng(9))).save(bad / "0.png")  # which was not rejected
    with pytest.raises(InputError, match="set of layouts differs"):
        make(layouts=bad, retry="failed")
    assert kept


def test_a_layout_that_changes_meanwhile_is_rejected(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    layouts = write_layouts(tmp_path / "layouts", 2)
    honest = Session.prepare

    def late(self: Session, items: Any) -> Any:
        Image.fromarray(blocks(np.random.default_rng(7))).save(layouts / "1.png")
        return honest(self, items)

    monkeypatch.setattr(Session, "prepare", late)
    assert make(layouts=layouts).reasons == {"changed": 1}


# ---- devices


def test_a_device_without_memory_makes_fewer_at_once(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("zeuxis.pipelines.paint.BATCH", {"cpu": 8})
    seen: list[int] = []
    honest, room = painting_steps._imagined, 2

    def cramped(model: Any, some: Any) -> Any:
        seen.append(len(some))
        if len(some) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest(model, some)

    monkeypatch.setattr(painting_steps, "_imagined", cramped)
    said: list[str] = []
    report = make(variants=2, tell=said.append)
    assert report.images == 10
    assert [each for each in said if "memory" in each] == [said[-1]]
    assert min(seen) == 2
    room = 0
    with pytest.raises(UnfinishedError, match="memory for one image"):
        make("none")


@pytest.mark.parametrize("step", ["fitted", "led"])
def test_a_device_without_memory_before_it_paints_is_said(make: Make, monkeypatch: pytest.MonkeyPatch, step: str):
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(painting_steps, step, full)
    with pytest.raises(UnfinishedError, match="memory for one image"):
        make(transform="network", order="network")


def test_an_image_does_not_depend_on_its_company(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("zeuxis.pipelines.paint.BATCH", {"cpu": 4})
    layouts = write_layouts(tmp_path / "layouts", 6)
    make("all", layouts=layouts, shard=6)
    (layouts / "1.png").write_bytes(b"")
    make("but one", layouts=layouts, shard=6)
    whole, rest = (shown(tmp_path / name, "images") for name in ("all", "but one"))
    assert sorted(whole.keys() - rest.keys()) == ["0000001"]
    assert all(np.array_equal(whole[name], rest[name]) for name in rest)


def test_no_stage_runs_far_ahead(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    layouts = write_layouts(tmp_path / "layouts", 1)
    prepared = published = most = 0
    prepare, publish = Session.prepare, Units.publish

    def counted(self: Session, items: Any) -> Any:
        nonlocal prepared
        prepared += len(items)
        return prepare(self, items)

    def slow(self: Units, number: int, done: Any, guard: Any) -> Any:
        nonlocal published, most
        most = max(most, prepared - published)
        published += len(done)
        return publish(self, number, done, guard)

    monkeypatch.setattr(Session, "prepare", counted)
    monkeypatch.setattr(Units, "publish", slow)
    make(layouts=layouts, variants=150, shard=2, workers=1, transform="identity")
    assert published == 150
    assert most < 75


def test_the_bottleneck_is_named():
    rates = [Rate(PREPARE, 2, 10, 2.0, 2.0), Rate(NETWORK, 1, 10, 9.8, 1.0), Rate(ENCODE, 1, 10, 1.0, 1.0)]
    assert bottleneck(rates, 10.0, 8, True) == "the network on the GPU"
    assert bottleneck(rates, 10.0, 8, False) == NETWORK
    busy = [rates[0]._replace(busy=19.0, cpu=12.0), rates[1]._replace(cpu=7.0)]
    assert "canvases" in bottleneck(busy, 10.0, 2, False)


# ---- what cannot be


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variants": 0}, "variants"),
        ({"seed": -1}, "seed"),
        ({"keep_real": 1.0}, "keep_real"),
        ({"keep_real": 0.5, "layouts": None, "from_bank": "val"}, "keep_real"),
        ({"limit": 0}, "limit"),
        ({"shard": 0}, "shard"),
        ({"format": "zip"}, "format"),
        ({"boost": {"car": -1}}, "boost"),
        ({"from_bank": "val"}, "--layouts"),
        ({"layouts": None, "from_bank": "dev"}, "from_bank"),
        ({"layouts": "nowhere"}, "nowhere"),
        ({"dataset": "nyu"}, "nyu"),
        ({"retry": "all"}, "retry"),
        ({"k": 0}, "k"),
        ({"exclude": ("folder/nobody",)}, "nobody"),
        ({"erase": ("sky",)}, "'sky' to be erased: expected a thing class"),
        ({"erase": ("car",), "boost": {"car": 2}}, "--erase car: excludes its --boost"),
        ({"erase": ("car",), "keep_real": 0.5}, "holds no roi network"),
        ({"generated": 0}, "generated"),
        ({"generated": 2}, "--generated: excludes --layouts"),
        ({"generated": 2, "layouts": None, "recompose": True}, "--generated: excludes --recompose"),
        ({"where": "colour = 1"}, "colour"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(make: Make, tmp_path: Path, settings: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said):
        make(**settings)
    assert not (tmp_path / "out").exists()


def test_options_are_frozen_into_the_plan(make: Make, tmp_path: Path):
    make(boost={"car": 2}, k=3)
    plan = Plan.load(tmp_path / "out")
    assert plan is not None
    assert plan.settings["boost"] == {"car": 2.0}
    assert plan.units == 2
    assert {item.index for number in range(2) for item in plan.unit(number)} == set(range(5))
    assert replace(plan, bank="another").hash != plan.hash
    assert set(plan.settings) == {*SynthesisOptions.__dataclass_fields__, "version"}
