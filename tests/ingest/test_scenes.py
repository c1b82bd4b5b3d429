"""Procedural scenes: the same seed gives the same files, and colour, label and depth tell of one and the same thing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from zeuxis.ingest.datasets.scenes import (
    CAR,
    CLASSES,
    METRES_PER_UNIT,
    PERSON,
    POLE,
    ROAD,
    SIGN,
    SKY,
    VOID_ID,
    Scenes,
)
from zeuxis.ingest.scene_canvas import SKY_DEPTH, Atlas, Camera, Canvas, Surface
from zeuxis.ingest.scene_objects import flat, upright
from zeuxis.ingest.scene_painter import split_of, write_scenes
from zeuxis.ingest.scene_street import NOON, Scene, Street
from zeuxis.storage.classes import VOID
from zeuxis.storage.errors import DatasetError

SIZE = (192, 256)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "set", count=12, seed=7, size=SIZE)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [Street(7, street).paint(0, SIZE) for street in range(8)]


@pytest.fixture
def canvas() -> Canvas:
    return Canvas(Camera((0.0, 1.5, 0.0), 100.0, (64.0, 48.0), (96, 128)), NOON)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def region(canvas: Canvas, class_id: int) -> npt.NDArray[np.bool_]:
    return canvas.labels == class_id


def test_same_seed_writes_the_same_bytes(root: Path, tmp_path: Path) -> None:
    again = write_scenes(tmp_path / "again", count=12, seed=7, size=SIZE)
    assert files(again) == files(root)
    assert len(files(root)) == 3 * 12 + 1


def test_another_seed_or_place_gives_another_picture(scenes: list[Scene]) -> None:
    others = [Street(8, 0).paint(0, SIZE), Street(7, 0).paint(1, SIZE), scenes[1]]
    assert all((other.image != scenes[0].image).mean() > 0.5 for other in others)


def test_a_scene_does_not_depend_on_how_many_are_written(root: Path, tmp_path: Path) -> None:
    few = files(write_scenes(tmp_path / "few", count=2, seed=7, size=SIZE))
    whole = files(root)
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 6
    assert all(few[name] == whole[name] for name in pictures)


def test_nearer_polygon_keeps_colour_label_and_depth_in_either_order(canvas: Canvas) -> None:
    near = (upright(-1, 1, 0, 3, 5.0), CAR, (200, 0, 0))
    far = (upright(-3, 3, 0, 3, 10.0), PERSON, (0, 0, 200))
    other = Canvas(canvas.camera, canvas.light)
    for target, order in ((canvas, (near, far)), (other, (far, near))):
        for corners, class_id, colour in order:
            target.paint(corners, class_id, colour, glow=True)
    for name in ("colour", "labels", "nearness"):
        assert np.array_equal(getattr(canvas, name), getattr(other, name)), name
    for class_id, depth, colour in ((CAR, 5.0, (200, 0, 0)), (PERSON, 10.0, (0, 0, 200))):
        painted = region(canvas, class_id)
        assert painted.any()
        assert canvas.depth()[painted] == pytest.approx(depth, rel=1e-5)
        assert (canvas.colour[painted] == colour).all()
    assert not (region(canvas, CAR) & (np.abs(canvas.depth() - 10) < 1)).any()


def test_depth_of_the_ground_is_that_of_the_ray_through_the_pixel(canvas: Canvas) -> None:
    canvas.paint(flat(-50, 50, -5, 90, 0.0), ROAD, (90, 90, 90))
    rows, _ = np.nonzero(region(canvas, ROAD))
    expected = 1.5 * 100 / (rows + 0.5 - 48)
    assert len(rows) > 1000
    assert canvas.depth()[region(canvas, ROAD)] == pytest.approx(expected, rel=1e-4)


def test_a_decal_wins_over_its_own_surface_and_over_nothing_in_front(canvas: Canvas) -> None:
    canvas.paint(upright(-2, 2, 0, 3, 8.0), CAR, (9, 9, 9))
    canvas.paint(upright(-0.5, 0.5, 0, 3, 7.5), PERSON, (9, 9, 9))
    canvas.paint(upright(-2, 2, 1, 2, 8.0), SIGN, (9, 9, 9), decal=True)
    plain = Canvas(canvas.camera, canvas.light)
    plain.paint(upright(-0.5, 0.5, 0, 3, 7.5), PERSON, (9, 9, 9))
    assert region(canvas, SIGN).any()
    assert np.array_equal(region(canvas, PERSON), region(plain, PERSON))


def test_holes_of_a_cutout_show_what_is_behind(canvas: Canvas) -> None:
    tiles = np.full((1, 4, 4, 4), 255, np.uint8)
    tiles[0, :, :2, 3] = 0  # the left half is a hole
    surface = Surface(Atlas(tiles), (0, -1.0, 2.0), (1, 0.5, 2.0), cutout=True)
    canvas.paint(upright(-3, 3, 0, 3, 9.0), CAR, (10, 20, 30), glow=True)
    canvas.paint(upright(-1, 1, 0.5, 2.5, 6.0), SIGN, surface, glow=True)
    middle = canvas.labels[48]
    assert (middle[50:63] == CAR).all()
    assert (middle[65:78] == SIGN).all()
    assert canvas.depth()[48, 50:63] == pytest.approx(9.0, rel=1e-5)
    assert (canvas.colour[48, 50:63] == (10, 20, 30)).all()
    assert (canvas.colour[48, 65:78] == 255).all()


def test_a_polygon_behind_the_camera_paints_nothing_and_one_across_it_is_cut(canvas: Canvas) -> None:
    canvas.paint(upright(-1, 1, 0, 3, -2.0), CAR, (9, 9, 9))
    assert not region(canvas, CAR).any()
    canvas.paint(flat(0.5, 3, -20, 20, 0.0), ROAD, (9, 9, 9))
    assert region(canvas, ROAD)[-1, -1]
    assert not region(canvas, ROAD)[:48].any()


def test_shadows_darken_and_leave_label_and_depth(canvas: Canvas) -> None:
    canvas.paint(flat(-9, 9, 1, 40, 0.0), ROAD, (100, 100, 100))
    before, labels, nearness = canvas.colour.copy(), canvas.labels.copy(), canvas.nearness.copy()
    canvas.shadow(flat(-1, 1, 4, 8, 0.0))
    canvas.cast_shadows()
    changed = (canvas.colour != before).any(axis=-1)
    assert 0 < changed.sum() < region(canvas, ROAD).sum()
    assert (canvas.colour[changed] < before[changed]).all()
    assert np.array_equal(canvas.labels, labels)
    assert np.array_equal(canvas.nearness, nearness)


def test_smaller_copies_of_a_tile_do_not_mix_holes_into_colours() -> None:
    tiles = np.zeros((1, 2, 2, 4), np.uint8)
    tiles[0, 0] = (200, 100, 50, 255)  # the lower row is a black hole
    half = np.array([0.5], np.float32)
    texel = Atlas(tiles).sample(0, half, half, np.array([2.0], np.float32))[0]
    assert texel[:3] == pytest.approx((200, 100, 50), abs=4)
    assert texel[3] == 127


def test_the_sky_is_behind_everything(scenes: list[Scene]) -> None:
    for scene in scenes:
        sky = scene.labels == SKY
        assert sky.any()
        assert (scene.depth[sky] == 65535).all()
        assert scene.depth[~sky].max() * METRES_PER_UNIT < SKY_DEPTH - 1
        assert scene.depth.min() > 0


def test_the_road_comes_nearer_downwards(scenes: list[Scene]) -> None:
    for scene in scenes:
        pairs = (scene.labels[:-1] == ROAD) & (scene.labels[1:] == ROAD)
        above, below = scene.depth[:-1][pairs].astype(int), scene.depth[1:][pairs].astype(int)
        assert (below < above).mean() > 0.999
        assert (below <= above).all()


def test_classes_are_many_and_no_label_is_outside_the_table(scenes: list[Scene]) -> None:
    known = {entry.id for entry in CLASSES}
    found = [set(np.unique(scene.labels).tolist()) for scene in scenes]
    assert all(len(ids - {VOID_ID}) >= 5 for ids in found)
    assert len(set.union(*found) - {VOID_ID}) >= 10
    assert set.union(*found) <= known | {VOID_ID}
    assert any(VOID_ID in ids for ids in found)
    assert not all(VOID_ID in ids for ids in found)


def test_colours_follow_labels(scenes: list[Scene]) -> None:
    """Across the outline of a pole that stands before the sky, the colour changes where the label does."""
    steps = {True: [0.0], False: [0.0]}
    for scene in scenes:
        difference = np.abs(np.diff(scene.image.astype(int), axis=1)).sum(axis=-1)
        left, right = scene.labels[:, :-1], scene.labels[:, 1:]
        outline = ((left == POLE) & (right == SKY)) | ((left == SKY) & (right == POLE))
        steps[True] += difference[outline].tolist()
        steps[False] += difference[(left == SKY) & (right == SKY)].tolist()
    assert len(steps[True]) > 50
    assert np.median(steps[True]) > 8 * np.median(steps[False])


def test_reader_yields_sources_with_depth_and_void(root: Path) -> None:
    dataset = Scenes(root)
    refs = dataset.sources()
    assert [ref.name for ref in refs] == [f"{number:04d}" for number in range(12)]
    sources = [dataset.decode(ref, dataset.read(ref)) for ref in refs]
    for source in sources:
        assert source.image.shape == (*SIZE, 3)
        assert source.depth is not None
        assert source.depth[source.layout == SKY] == pytest.approx(655.35)
    assert {int(id) for source in sources for id in np.unique(source.layout)} <= {c.id for c in CLASSES} | {VOID}
    assert dataset.licence == "CC0-1.0"


def test_no_street_is_in_two_splits(root: Path) -> None:
    refs = Scenes(root).sources()
    assert {ref.split for ref in refs} == {"train", "val", "test"}
    assert len({(ref.group, ref.split) for ref in refs}) == len({ref.group for ref in refs}) == 3


@pytest.mark.parametrize("streets", [1, 3, 15, 100])
def test_splits_follow_one_another_and_keep_their_shares(streets: int) -> None:
    splits = [split_of(street, streets) for street in range(streets)]
    assert splits == sorted(splits, key=("train", "val", "test").index)
    assert splits.count("train") >= 1
    if streets == 100:
        assert (splits.count("test"), splits.count("val")) == (15, 10)


def test_progress_is_told_after_every_scene(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_scenes(tmp_path, count=2, size=(64, 64), progress=lambda done, count: told.append((done, count)))
    assert told == [(1, 2), (2, 2)]


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("keep me")
    with pytest.raises(DatasetError, match="choose another folder"):
        write_scenes(tmp_path, count=1, size=(64, 64))
    (tmp_path / "scenes.json").write_text('{"format": "something else"}')
    with pytest.raises(DatasetError, match="choose another folder"):
        write_scenes(tmp_path, count=1, size=(64, 64))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.txt", "scenes.json"]


def test_a_run_cut_short_is_written_again_without_leftovers(tmp_path: Path) -> None:
    def stop(done: int, count: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path, count=3, size=(64, 64), progress=stop)
    with pytest.raises(DatasetError, match="no scene in it"):
        Scenes(tmp_path).sources()
    write_scenes(tmp_path, count=1, size=(64, 64))
    assert [ref.name for ref in Scenes(tmp_path).sources()] == ["0000"]
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize(("count", "size"), [(0, (96, 128)), (1, (10, 128))])
def test_senseless_numbers_are_refused(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    with pytest.raises(DatasetError, match="at least"):
        write_scenes(tmp_path / "new", count=count, size=size)
    assert not (tmp_path / "new").exists()


def test_reader_refuses_what_is_no_scene_set_and_names_a_missing_partner(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="images"):
        Scenes(tmp_path).sources()
    write_scenes(tmp_path, count=2, size=(64, 64))
    (tmp_path / "labels" / "0001.png").unlink()
    assert [ref.layout for ref in Scenes(tmp_path).sources()] == ["labels/0000.png", None]
    for text in ("{", "[]", json.dumps({"format": "zeuxis-scenes", "scenes": [{"name": "0000"}]})):
        (tmp_path / "scenes.json").write_text(text)
        with pytest.raises(DatasetError, match=r"scenes\.json"):
            Scenes(tmp_path).sources()
    (tmp_path / "scenes.json").unlink()
    with pytest.raises(DatasetError, match=r"no scenes\.json"):
        Scenes(tmp_path).sources()
