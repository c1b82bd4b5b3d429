"""New layouts from old ones: coherent, as common as wanted, the same for the same chances, not of the own group."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.streets import CAR, CLASSES, PATH, PERSON, POLE, ROAD, SIGN, SIZE, SKY, THINGS, WALL, street
from zeuxis.pipelines.rebuild import rebuild
from zeuxis.pipelines.recomposed import Recomposition, figure
from zeuxis.pipelines.recomposition import Recomposer
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import BankError, InputError
from zeuxis.storage.layouts import find_components
from zeuxis.storage.reader import Reader

N_STREETS = 48
GROUPS = 6


def write(root: Path, layouts, classes=CLASSES, splits=lambda i: "train") -> str:
    """A data set of layouts, each a source of one of a few groups."""
    from PIL import Image

    random = np.random.default_rng(5)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i, layout in enumerate(layouts):
        Image.fromarray(random.integers(0, 256, (*layout.shape, 3), np.uint8)).save(root / "images" / f"{i:03}.png")
        Image.fromarray(layout).save(root / "labels" / f"{i:03}.png")
    (root / "classes.csv").write_text(classes)
    rows = [f"{i:03},{splits(i)},{i % GROUPS}" for i in range(len(layouts))]
    (root / "sources.csv").write_text("\n".join(["name,split,group", *rows]) + "\n")
    return f"folder:{root}"


@pytest.fixture(scope="module")
def streets():
    return [street(np.random.default_rng(seed)) for seed in range(N_STREETS)]


@pytest.fixture(scope="module")
def make_bank(tmp_path_factory, dask_address):
    def make(layouts, **options) -> Reader:
        folder = tmp_path_factory.mktemp("bank")
        rebuild(
            write(folder / "data", layouts, **options), folder / "bank",
            scheduler=dask_address, patches=False, min_area=4, frame=SIZE,
        )  # fmt: skip
        return Reader(folder / "bank")

    return make


@pytest.fixture(scope="module")
def reader(make_bank, streets):
    return make_bank(streets, splits=lambda i: "val" if i % 8 == 7 else "train")


@pytest.fixture(scope="module")
def recomposer(reader):
    return Recomposer(reader)


@pytest.fixture(scope="module")
def made(recomposer, streets):
    random = np.random.default_rng(11)
    return [(layout, recomposer.recompose(layout.astype(np.uint16), random)) for layout in streets * 3]


def boxes_of(instances, layout, number):
    rows, cols = np.nonzero(instances == number)
    return rows.min(), cols.min(), rows.max() + 1, cols.max() + 1


def test_what_the_bank_says_is_learned(recomposer):
    objects = recomposer._objects
    grounding = objects.grounding
    assert np.flatnonzero(objects.terrain.ground).tolist() == [ROAD, PATH]
    assert grounding.standing[[CAR, PERSON, POLE]].all()
    assert not grounding.standing[SIGN]
    assert grounding.carries[POLE, SIGN]
    assert np.flatnonzero(grounding.allowed[CAR]).tolist() == [ROAD]
    assert np.flatnonzero(grounding.allowed[PERSON]).tolist() == [PATH]
    for index, times in ((CAR, 1.0), (PERSON, 1.5)):
        assert grounding.height(index, 70 / SIZE[0]) == pytest.approx(times * 30 / SIZE[0], rel=0.12)
        assert grounding.height(index, 60 / SIZE[0]) == pytest.approx(times * 20 / SIZE[0], rel=0.12)


def test_every_kind_of_edit_happens_and_can_be_written_down(made):
    kinds = {edit.kind for _, new in made for edit in new.edits}
    assert {"added", "removed", "moved", "mirrored", "layout mirrored"} <= kinds
    for _, new in made[:10]:
        told = json.loads(json.dumps([asdict(edit) for edit in new.edits]))
        assert [edit["kind"] for edit in told] == [edit.kind for edit in new.edits]


def test_layouts_and_instances_agree(made):
    for layout, new in made:
        assert new.layout.shape == new.instances.shape == layout.shape
        assert (new.layout.dtype, new.instances.dtype) == (np.uint16, np.uint16)
        assert np.array_equal(new.instances > 0, THINGS[new.layout])
        numbers = np.unique(new.instances)
        assert numbers.tolist() == list(range(len(numbers)))
        for number in numbers[1:]:
            assert len(np.unique(new.layout[new.instances == number])) == 1


def test_what_is_put_somewhere_stands_where_its_class_stands_and_is_as_tall_as_there(made):
    checked = 0
    for _, new in made:
        for edit in new.edits:
            if edit.kind not in ("added", "moved") or not edit.instances:
                continue
            _, left, bottom, right = boxes_of(new.instances, new.layout, edit.instances[0])
            if bottom == SIZE[0] or edit.after[2] != bottom or edit.class_name not in ("car", "person"):
                continue  # its foot is hidden
            index = {"car": CAR, "person": PERSON}[edit.class_name]
            below = new.layout[bottom, left:right][new.instances[bottom - 1, left:right] == edit.instances[0]]
            seen = below[~THINGS[below]]
            assert np.isin(seen, ROAD if index == CAR else PATH).mean() >= 0.75 if seen.size else True
            tall = edit.after[2] - edit.after[0]
            assert tall == pytest.approx({CAR: 1.0, PERSON: 1.5}[index] * (bottom - 40), rel=0.3, abs=3)
            checked += 1
    assert checked > 60


def test_nothing_floats_and_signs_stay_on_their_poles(made):
    for _, new in made:
        parts = find_components(new.layout)
        boxes = parts.areas_and_boxes[1]
        for edit in new.edits:
            if edit.kind == "added" and edit.class_name == "pole" and len(edit.instances) == 2:
                pole, sign = (boxes_of(new.instances, new.layout, number) for number in edit.instances)
                assert sign[2] <= pole[0] + 1
                assert sign[1] <= pole[1] < pole[3] <= sign[3] + 1
                assert (new.instances[sign[2], pole[1] : pole[3]] > 0).any()  # the pole, or what hides it
        for index, (_, left, bottom, right) in zip(parts.class_ids, boxes, strict=True):
            if bottom <= 40 and index in (CAR, PERSON, POLE):  # above the ground: something hides the rest
                assert THINGS[new.layout[bottom, left:right]].any()


def test_most_of_what_is_put_in_is_seen(made):
    for _, new in made:
        for edit in new.edits:
            if edit.kind == "added" and edit.instances and edit.class_name == "car":
                seen = (new.instances == edit.instances[0]).sum()
                top, left, bottom, right = edit.after
                assert seen >= 0.3 * (bottom - top) * (right - left)


def test_the_rest_of_the_layout_is_left_alone(recomposer, streets):
    nothing = Recomposition(removed=0, moved=0, mirrored=0, mirrored_layout=0)
    same = Recomposer(recomposer.reader, settings=nothing)
    whole = Recomposer(recomposer.reader, settings=Recomposition(0, 0, 0, mirrored_layout=1))
    for layout in streets[:8]:
        layout = layout.astype(np.uint16)
        new = same.recompose(layout, np.random.default_rng(0))
        assert np.array_equal(new.layout, layout)
        assert not new.edits
        assert np.array_equal(whole.recompose(layout, np.random.default_rng(0)).layout, layout[:, ::-1])


def shares(layouts):
    return np.mean([[(layout == index).mean() for index in range(len(THINGS))] for layout in layouts], axis=0)


@pytest.mark.parametrize("boost", [{}, {"person": 2.0}, {"sign": 2.0}, {"car": 0.5}])
def test_classes_become_as_common_as_asked_for(reader, streets, boost):
    recomposer, random = Recomposer(reader, boost=boost), np.random.default_rng(2)
    before = shares(streets)
    after = shares([recomposer.recompose(layout.astype(np.uint16), random).layout for layout in streets * 4])
    for index, name in ((CAR, "car"), (PERSON, "person"), (SIGN, "sign")):
        if name in boost or not boost:
            assert after[index] / before[index] == pytest.approx(boost.get(name, 1.0), rel=0.25)


def test_the_same_chances_give_the_same_layout_also_elsewhere(recomposer, streets):
    layout = streets[3].astype(np.uint16)
    one = recomposer.recompose(layout, np.random.default_rng(9))
    fresh = Recomposer(Reader(recomposer.reader.path))
    for other in (fresh, pickle.loads(pickle.dumps(fresh)), pickle.loads(pickle.dumps(recomposer))):
        again = other.recompose(layout, np.random.default_rng(9))
        assert np.array_equal(one.layout, again.layout)
        assert np.array_equal(one.instances, again.instances)
        assert one.edits == again.edits
    assert not np.array_equal(one.layout, recomposer.recompose(layout, np.random.default_rng(10)).layout)


def test_nothing_is_of_the_own_group_or_another_split(reader, recomposer, streets):
    rows = reader.table("sources", columns=["source", "split", "group"]).to_pylist()
    known = {row["source"]: row for row in rows}
    random, used = np.random.default_rng(4), set()
    for layout in streets[:20]:
        for edit in recomposer.recompose(layout.astype(np.uint16), random, "folder/2").edits:
            if edit.source:
                assert known[edit.source]["group"] != "folder/2"
                assert known[edit.source]["split"] == "train"
                used.add(known[edit.source]["group"])
    assert len(used) >= 4


def test_segments_are_those_of_the_source_that_is_named(reader, made):
    for _, new in made[:20]:
        for edit in new.edits:
            for id in edit.segments:
                shard, row = reader.find_segment(int(id, 16))
                assert reader.row("segments", shard, row)["source"] == edit.source


def test_generated_layouts_are_populated(recomposer, reader):
    random = np.random.default_rng(1)
    made = [recomposer.generated(random) for _ in range(40)]
    assert all(new.layout.shape == reader.geometry.frame for new in made)
    assert all(new.edits[0].kind == "background" and new.edits[0].source for new in made)
    share = shares([new.layout for new in made])
    assert 0.4 < share[CAR] / shares([street(np.random.default_rng(s)) for s in range(40)])[CAR] < 1.6
    assert len({new.layout.tobytes() for new in made}) == 40
    assert recomposer.generated(random, (48, 80)).layout.shape == (48, 80)
    for apart in ("source", "group"):
        for _ in range(20):
            lent, *others = recomposer.generated(random, apart=apart).edits
            assert lent.source not in {edit.source for edit in others}


def test_nothing_is_taken_of_what_is_excluded(reader):
    rows = reader.table("sources", {"split": "train"}, ["source", "group"]).to_pylist()
    barred = [rows[0]["group"], rows[1]["group"], *(row["source"] for row in rows[2::3])]
    left = {row["source"] for row in rows if {row["source"], row["group"]}.isdisjoint(barred)}
    assert left
    recomposer, random = Recomposer(reader, exclude=barred), np.random.default_rng(2)
    layouts = [recomposer.generated(random) for _ in range(10)]
    layouts += [recomposer.recompose(street(random), random) for _ in range(10)]
    used = {edit.source for new in layouts for edit in new.edits if edit.source}
    assert len(used) > 1
    assert used <= left


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (40, 50), (200, 70)])
@pytest.mark.parametrize("id", [SKY, WALL, CAR, VOID, 999])
def test_any_layout_will_do(recomposer, shape, id):
    new = recomposer.recompose(np.full(shape, id, np.uint16), np.random.default_rng(0))
    assert new.layout.shape == shape
    if id in (VOID, 999):
        assert not THINGS[np.minimum(new.layout, 3)].any()


def test_noise_will_do(recomposer):
    random = np.random.default_rng(0)
    new = recomposer.recompose(random.integers(0, 8, (64, 64)).astype(np.uint16), random)
    assert new.layout.shape == (64, 64)


@pytest.mark.parametrize("keep", [lambda label: label < CAR, lambda label: label == SKY, lambda label: label == CAR])
def test_banks_that_say_little(make_bank, streets, keep):
    layouts = [np.where(keep(layout), layout, 255).astype(np.uint8) for layout in streets[:4]]
    recomposer, random = Recomposer(make_bank(layouts)), np.random.default_rng(0)
    new = recomposer.recompose(streets[5].astype(np.uint16), random)
    assert new.layout.shape == SIZE
    assert recomposer.generated(random).layout.shape == SIZE


def test_a_bank_without_things_changes_nothing_but_sides(make_bank, streets):
    plain = CLASSES.replace(",1,0", ",0,0").replace(",1,1", ",0,0")
    recomposer = Recomposer(make_bank(streets[:4], classes=plain))
    layout = streets[5].astype(np.uint16)
    new = recomposer.recompose(layout, np.random.default_rng(0))
    assert np.array_equal(new.layout, layout) or np.array_equal(new.layout, layout[:, ::-1])
    assert not new.instances.any()
    with pytest.raises(InputError, match="has no thing classes"):
        Recomposer(recomposer.reader, boost={"car": 2})


def test_a_split_without_layouts_generates_nothing(reader):
    with pytest.raises(BankError, match="labelled sources in test"):
        Recomposer(reader, split="test").generated(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("boost", "said"),
    [
        ({"tram": 2}, "no class of"),
        ({"road": 2}, "a stuff class"),
        *(({"car": factor}, "a finite number above 0") for factor in (0, -1, float("nan"), float("inf"), "3", True)),
    ],
)
def test_bad_boosts_are_refused(reader, boost, said):
    with pytest.raises(InputError, match=said):
        Recomposer(reader, boost=boost)


@pytest.mark.parametrize(
    "bad", [{"removed": 1.5}, {"moved": float("nan")}, {"tries": 0}, {"removed": 0.6, "moved": 0.6}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(InputError, match="recomposition"):
        Recomposition(**bad)


def test_an_unknown_split_is_refused(reader):
    with pytest.raises(InputError, match="one of train, val, test"):
        Recomposer(reader, split="all")


def test_the_figure_shows_both_with_boxes(reader, made):
    layout, new = made[0]
    picture = figure(layout.astype(np.uint16), new, reader.classes)
    assert picture.dtype == np.uint8
    assert picture.shape == (384, 2 * 512 + 8, 3)
    assert (picture == (40, 255, 40)).all(axis=2).any() or (picture == (255, 40, 40)).all(axis=2).any()
