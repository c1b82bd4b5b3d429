"""The canvas: painted as a naive painter would, every pixel knows its segment, saved whole or not at all."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeuxis.storage.errors import InputError
from zeuxis.storage.layouts import areas_and_boxes, find_components
from zeuxis.synth.canvas import (
    check_writable,
    compose,
    contested,
    load_provenance,
    overlaps,
    paint,
    place,
    save,
)
from zeuxis.synth.ordering import ClassOrder
from zeuxis.synth.transform import Origin, Piece, Target, fit, identity

SKY, HOUSE, CAR = 0, 5, 9
STATISTICS = ClassOrder.from_orderings([HOUSE] * 30 + [CAR] * 30 + [CAR] * 30, [SKY] * 30 + [HOUSE] * 30 + [SKY] * 30)


def piece(number, class_id, place, target, mask, seed=0):
    pixels = np.random.default_rng(seed + number).integers(1, 256, (*mask.shape, 3), np.uint8)
    origin = Origin(f"photo-{number}", "scenes", f"images/fête {number}.png", "CC0", "/data/scenes")
    segment_id = number if number % 2 else 2**63 - 1 - number
    return Piece(segment_id, class_id, f"class {class_id}", pixels, mask, place, target, origin)


def scene(seed, size=(48, 64), blocks=7):
    """Pieces for the components of a random layout, from places that fit only roughly."""
    rng = np.random.default_rng(seed)
    layout = np.full(size, SKY, np.uint16)
    for _ in range(blocks):
        top, left = rng.integers(0, size[0] - 5), rng.integers(0, size[1] - 5)
        bottom, right = top + rng.integers(4, 25), left + rng.integers(4, 30)
        layout[top:bottom, left:right] = rng.choice([HOUSE, CAR, SKY])
    components = find_components(layout)
    _, boxes = areas_and_boxes(components.labels, len(components))
    pieces = []
    for i, class_id in enumerate(components.class_ids.tolist()):
        top, left, bottom, right = boxes[i].tolist()
        target = Target((top, left, bottom, right), components.labels[top:bottom, left:right] == i + 1)
        where = np.array([top / size[0], left / size[1], bottom / size[0], right / size[1]])
        where = np.clip(where + rng.uniform(-0.1, 0.1, 4), 0, 1)
        if where[0] + 0.02 > where[2] or where[1] + 0.02 > where[3]:
            where = np.array([0.2, 0.2, 0.6, 0.6])
        mask = rng.random(tuple(rng.integers(3, 40, 2))) < 0.8
        pieces.append(piece(i, class_id, tuple(where), target, mask, seed))
    return pieces, size


def naively_painted(placements, size, order, protect):
    """Pixel after pixel, what a painter sees: the index on top, or 0."""
    seen = np.zeros(size, int)
    for row, col in itertools.product(range(size[0]), range(size[1])):
        spilled = own = 0
        for i in order:
            top, left, bottom, right = placements[i].box
            if top <= row < bottom and left <= col < right and placements[i].mask[row - top, col - left]:
                spilled = i + 1
                target = placements[i].piece.target
                top, left, bottom, right = target.box
                if top <= row < bottom and left <= col < right and target.mask[row - top, col - left]:
                    own = i + 1
        seen[row, col] = own if protect and own else spilled
    return seen


@pytest.mark.parametrize("protect", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_the_canvas_is_what_a_naive_painter_paints(seed, protect):
    pieces, size = scene(seed)
    canvas = compose(pieces, size, STATISTICS, protect)
    expected = naively_painted(canvas.placements, size, canvas.back_to_front, protect)
    np.testing.assert_array_equal(canvas.provenance, expected)


@pytest.mark.parametrize("seed", range(6))
def test_every_pixel_is_that_of_the_segment_its_provenance_names(seed):
    pieces, size = scene(seed)
    canvas = compose(pieces, size, STATISTICS)
    assert canvas.image.shape == (*size, 3)
    assert canvas.image.dtype == np.uint8
    assert canvas.provenance.dtype == np.uint16
    np.testing.assert_array_equal(canvas.valid, canvas.provenance > 0)
    for row, col in itertools.product(range(size[0]), range(size[1])):
        index = int(canvas.provenance[row, col])
        if index:
            placed = canvas.placements[index - 1]
            top, left = placed.box[:2]
            np.testing.assert_array_equal(canvas.image[row, col], placed.pixels[row - top, col - left])
        else:
            assert not canvas.image[row, col].any()
    assert [p.piece for p in canvas.placements] == pieces
    assert canvas.visible.tolist() == [(canvas.provenance == i + 1).sum() for i in range(len(pieces))]


def test_overlaps_are_the_pairs_that_share_a_pixel():
    pieces, size = scene(3, blocks=12)
    placements = [place(p, fit(p, size), size) for p in pieces]
    whole = np.zeros((len(pieces), *size), bool)
    for full, placed in zip(whole, placements, strict=True):
        top, left, bottom, right = placed.box
        full[top:bottom, left:right] = placed.mask
    pairs = itertools.combinations(range(len(pieces)), 2)
    expected = [(a, b) for a, b in pairs if (whole[a] & whole[b]).any()]
    assert expected
    assert list(overlaps(placements)) == expected


@pytest.mark.parametrize("seed", range(6))
def test_contested_are_the_pairs_whose_order_shows(seed):
    pieces, size = scene(seed)
    placements = [place(p, fit(p, size), size) for p in pieces]
    everything, showing = range(len(pieces)), set()
    for a, b in itertools.combinations(everything, 2):
        rest = [i for i in everything if i not in (a, b)]  # of these two, one ends up in front of all others
        one, other = (paint(placements, size, [*rest, *both]).provenance for both in ((a, b), (b, a)))
        if (one != other).any():
            showing.add((a, b))
    found = list(contested(placements, size))
    assert set(found) == showing
    assert set(found) < set(overlaps(placements))


def test_segments_that_interlock_without_a_shared_pixel_do_not_overlap():
    mask = np.indices((8, 8)).sum(axis=0) % 2 == 0
    target = Target((0, 0, 8, 8), np.ones((8, 8), bool))
    pieces = [piece(i, CAR, (0, 0, 1, 1), target, m) for i, m in enumerate((mask, ~mask, mask))]
    placements = [place(one, identity(one, (8, 8)), (8, 8)) for one in pieces]
    assert list(overlaps(placements)) == [(0, 2)]


def house_and_sky():
    """A house for the left half, whose segment at its own place spills far right, and the sky that fits there."""
    size, half = (20, 40), np.ones((20, 20), bool)
    house = piece(1, HOUSE, (0, 0, 1, 0.9), Target((0, 0, 20, 20), half), np.ones((20, 36), bool))
    sky = piece(2, SKY, (0, 0.5, 1, 1), Target((0, 20, 20, 40), half), half)
    return [place(one, identity(one, size), size) for one in (house, sky)], size


def test_the_statistics_decide_which_of_two_is_in_front():
    placements, size = house_and_sky()
    wide = Target((0, 0, 20, 36), np.ones((20, 36), bool))  # with it, the house fits as it is
    pieces = [replace(placements[0].piece, target=wide), placements[1].piece]
    canvas = compose(pieces, size, STATISTICS, protect=False)
    assert list(canvas.back_to_front) == [1, 0]
    assert canvas.provenance[10, 30] == 1
    backwards = ClassOrder.from_orderings([SKY] * 30, [HOUSE] * 30)
    assert compose(pieces, size, backwards, protect=False).provenance[10, 30] == 2


def test_a_badly_fitting_segment_hides_no_other_unless_asked():
    placements, size = house_and_sky()
    assert paint(placements, size, [1, 0]).provenance[10, 30] == 2
    assert paint(placements, size, [1, 0], protect=False).provenance[10, 30] == 1
    assert paint(placements[:1], size, [0]).provenance[10, 30] == 1  # where nothing else is, it fills the gap


def test_no_pieces_make_an_all_missing_canvas(tmp_path):
    canvas = compose([], (5, 7), STATISTICS)
    assert not canvas.image.any()
    assert not canvas.valid.any()
    assert not canvas.provenance.any()
    save(canvas, tmp_path / "empty.png")
    indices, records = load_provenance(tmp_path / "empty.png")
    assert indices.shape == (5, 7)
    assert records == {}


def test_too_many_pieces_are_refused():
    pieces, size = scene(0)
    with pytest.raises(InputError, match="at most 65,535 pieces, found 65,536"):
        compose(pieces[:1] * 65536, size, STATISTICS)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_what_is_saved_comes_back(tmp_path, suffix):
    pieces, size = scene(1)
    canvas = compose(pieces, size, STATISTICS)
    out = tmp_path / f"my.collage{suffix}"
    paths = save(canvas, out)
    names = [f"my.collage{suffix}", "my.collage.valid.png", "my.collage.provenance.png", "my.collage.json"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    picture = np.array(Image.open(out).convert("RGB"))
    assert picture.shape == canvas.image.shape
    if suffix == ".png":
        np.testing.assert_array_equal(picture, canvas.image)
    np.testing.assert_array_equal(np.array(Image.open(paths[1])), np.where(canvas.valid, 255, 0))
    indices, records = load_provenance(out)
    np.testing.assert_array_equal(indices, canvas.provenance)
    assert records == {i: canvas.record(i) for i in range(1, len(pieces) + 1)}


def test_the_listing_names_every_source(tmp_path):
    pieces, size = scene(1)
    canvas = compose(pieces, size, STATISTICS)
    listing = json.loads(save(canvas, tmp_path / "a.png")[3].read_text(encoding="utf-8"))
    for i, one in enumerate(pieces):
        row = listing["segments"][str(i + 1)]
        assert row["segment"] == f"{one.segment_id:016x}"
        assert len(row["segment"]) == 16
        assert row["source"] == f"photo-{i}"
        assert row["image"] == f"images/fête {i}.png"
        assert (row["dataset"], row["licence"], row["root"]) == ("scenes", "CC0", "/data/scenes")
        assert row["visible_pixels"] == (canvas.provenance == i + 1).sum()
    assert listing["missing"] == (~canvas.valid).sum()


def test_three_hundred_pieces_keep_their_indices(tmp_path):
    mask = np.ones((2, 2), bool)
    boxes = [(2 * (i // 20), 2 * (i % 20), 2 * (i // 20) + 2, 2 * (i % 20) + 2) for i in range(300)]
    pieces = [
        piece(i, CAR, (b[0] / 30, b[1] / 40, b[2] / 30, b[3] / 40), Target(b, mask), mask) for i, b in enumerate(boxes)
    ]
    canvas = compose(pieces, (30, 40), STATISTICS)
    assert sorted(set(canvas.provenance.ravel().tolist())) == list(range(1, 301))
    save(canvas, tmp_path / "many.png")
    np.testing.assert_array_equal(load_provenance(tmp_path / "many.png").indices, canvas.provenance)


@pytest.mark.parametrize("name", ["a.gif", "a", "missing/a.png", "folder.png", "b.png", "n" * 300 + ".png"])
def test_an_unusable_name_is_refused_and_nothing_written(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "b.json").mkdir()
    before = sorted(tmp_path.rglob("*"))
    canvas = compose([], (5, 7), STATISTICS)
    with pytest.raises(InputError) as refused:
        save(canvas, tmp_path / name)
    assert str(tmp_path / Path(name).with_suffix("")) in str(refused.value)
    assert "\n" not in str(refused.value)
    if len(name) < 300:
        with pytest.raises(InputError):
            check_writable(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("fails_at", range(4))
def test_a_failing_disk_leaves_what_was_there(tmp_path, monkeypatch, fails_at):
    pieces, size = scene(1)
    out = tmp_path / "a.png"
    save(compose([], size, STATISTICS), out)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    writes, write = itertools.count(), Path.write_bytes

    def full(path, data):
        if next(writes) == fails_at:
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        save(compose(pieces, size, STATISTICS), out)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_provenance_is_refused_by_name(tmp_path):
    pieces, size = scene(1)
    out = tmp_path / "a.png"
    _, _, indices, listing = save(compose(pieces, size, STATISTICS), out)
    whole, rows = indices.read_bytes(), json.loads(listing.read_text(encoding="utf-8"))
    indices.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.provenance\.png"):
        load_provenance(out)
    indices.write_bytes(whole)
    seen = load_provenance(out).indices.max()
    del rows["segments"][str(seen)]
    listing.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(InputError, match=rf"a\.json: says nothing of index {seen}"):
        load_provenance(out)
    for text in ("{", "[]", '{"segments": []}', '{"segments": {"1": {}}}'):
        listing.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"a\.json"):
            load_provenance(out)
    listing.unlink()
    with pytest.raises(InputError, match=r"a\.json"):
        load_provenance(out)
