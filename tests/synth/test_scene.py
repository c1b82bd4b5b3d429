"""Objects are taken out of scenes and put in by depth, and overlaps are bounded."""

import numpy as np
import pytest

from tests.streets import CAR, PATH, PERSON, ROAD, SKY, THINGS, street
from tests.synth.test_background import SIZE, TERRAIN, VOID
from zeuxis.synth.placing import Layer, placed_at
from zeuxis.synth.scene import Limits, Scene

EVEN = np.full((VOID, VOID), 0.5)
ON_ROAD = np.isin(np.arange(VOID + 1), (ROAD,))
LIMITS = Limits()


def scene_of(*boxes, ahead=EVEN):
    layout = street(np.random.default_rng(0), objects=False).astype(np.uint16)
    for index, (top, left, bottom, right) in boxes:
        layout[top:bottom, left:right] = index
    return layout, Scene.of(layout, THINGS, TERRAIN, ahead)


def car(foot, middle, tall=20, wide=20):
    top, left = 0.9 - tall / SIZE[0], 0.5 - wide / SIZE[1] / 2
    layer = Layer(CAR, (top, left, 0.9, left + wide / SIZE[1]), np.ones((tall, wide), bool), 9)
    return placed_at([layer], SIZE, foot=foot / SIZE[0], middle=middle / SIZE[1])


@pytest.mark.parametrize("seed", range(5))
def test_what_is_not_touched_stays_as_it_is(seed):
    layout = street(np.random.default_rng(seed)).astype(np.uint16)
    scene = Scene.of(layout, THINGS, TERRAIN, EVEN)
    assert np.array_equal(scene.classes(), layout)
    for root in scene.loose:
        things = scene.together(root)
        layers = scene.layers(things)
        scene.lift(things)
        scene.restore(things, layers)
    assert np.array_equal(scene.classes(), layout)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_taken_out_leaves_what_is_behind(seed):
    layout = street(np.random.default_rng(seed)).astype(np.uint16)
    scene = Scene.of(layout, THINGS, TERRAIN, EVEN)
    scene.lift(list(scene.things.values()))
    empty = street(np.random.default_rng(seed), objects=False)
    assert not scene.owner.any()
    assert not THINGS[scene.classes()].any()
    assert (scene.classes() == empty).mean() > 0.97


@pytest.mark.parametrize(("foot", "shown"), [(60, False), (90, True)])
def test_the_lower_foot_is_in_front(foot, shown):
    _, scene = scene_of((PERSON, (50, 80, 75, 90)))
    made = scene.put(car(foot, 90))
    overlap = np.s_[foot - 20 : foot, 80:90]
    both = np.zeros(SIZE, bool)
    both[overlap] = True
    both &= np.pad(np.ones((25, 10), bool), ((50, 21), (80, 38)))
    assert both.any()
    assert ((scene.owner[both] == made[0].number) == shown).all()


def test_level_feet_follow_the_orderings_of_the_bank():
    ahead = EVEN.copy()
    ahead[PERSON, CAR], ahead[CAR, PERSON] = 0.9, 0.1
    for odds, front in ((ahead, PERSON), (ahead.T, CAR)):
        _, scene = scene_of((PERSON, (50, 80, 75, 90)), ahead=odds)
        scene.put(car(75, 90))
        assert scene.classes()[70, 85] == front


@pytest.mark.parametrize(
    ("foot", "middle", "fits"), [(70, 90, True), (70, 20, False), (44, 90, False), (30, 90, False), (10, 90, False)]
)
def test_it_must_stand_on_what_it_may(foot, middle, fits):
    _, scene = scene_of()
    placed = car(foot, middle)
    assert (placed is not None and scene.fits(placed, ON_ROAD, LIMITS)) == fits


def test_overlaps_are_bounded_either_way_and_add_up():
    _, scene = scene_of((CAR, (60, 80, 80, 100)))
    assert not scene.fits(car(84, 90), ON_ROAD, LIMITS)  # hides most of it
    assert not scene.fits(car(76, 90), ON_ROAD, LIMITS)  # is hidden
    side = car(84, 104)
    assert scene.fits(side, ON_ROAD, LIMITS)
    scene.put(side)
    assert not scene.fits(car(86, 76), ON_ROAD, LIMITS)  # which alone would do


def test_void_around_an_object_goes_with_it():
    layout, _ = scene_of()
    layout[59:81, 79:101] = VOID
    layout[60:80, 80:100] = CAR
    scene = Scene.of(layout, THINGS, TERRAIN, EVEN)
    assert np.array_equal(scene.classes(), layout)
    scene.lift(list(scene.things.values()))
    assert (scene.classes()[59:81, 79:101] == ROAD).all()


def test_remnants_are_dropped():
    _, scene = scene_of((PERSON, (50, 80, 75, 90)))
    person = next(iter(scene.things.values()))
    wide = car(90, 86, tall=38, wide=14)
    scene.put(wide)
    left = (scene.owner == person.number).sum()
    assert 0 < left < 0.1 * person.area
    assert [thing.number for thing in scene.tidy(0.1)] == [person.number]
    assert not (scene.owner == person.number).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2)])
@pytest.mark.parametrize("index", [SKY, CAR, VOID, PATH])
def test_the_smallest_scenes(shape, index):
    scene = Scene.of(np.full(shape, index, np.uint16), THINGS, TERRAIN, EVEN)
    scene.lift([thing for root in scene.loose for thing in scene.together(root)])
    scene.tidy(0.1)
    assert scene.classes().shape == shape
