"""What is stored of one source: pixels and masks bit for bit, rows that agree with one another, one fingerprint."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.extract import Extraction, ExtractionSettings, extract, rejected, with_content
from zeuxis.ingest.patches import PatchSettings
from zeuxis.storage.classes import VOID, ClassTable
from zeuxis.storage.codec import decode_mask, decode_pixels, encode_segment, unseal
from zeuxis.storage.layouts import Geometry
from zeuxis.storage.manifest import DatasetEntry
from zeuxis.storage.records import Rows, SegmentRecord
from zeuxis.storage.shard import blob_key
from zeuxis.storage.shard_writer import SourceBundle

SETTINGS = ExtractionSettings(Geometry((24, 32), 16))
WIDE = ExtractionSettings(Geometry((96, 128), 64))
"""A frame with enough rows for two neighbours to touch across their boundary."""


def extracted(
    photos: Any,
    settings: ExtractionSettings = SETTINGS,
    stamp: str = "1:2",
    renamed: dict[str, str | None] | None = None,
) -> SourceBundle:
    """The first source of a folder."""
    dataset = open_dataset(photos.spec)
    classes, mapping = ClassTable().merged(dataset.decoding.classes, renamed)
    entry = DatasetEntry("folder", "folder", str(photos.root), None, dataset.decoding, mapping)
    ref = dataset.sources()[0]
    encoded = dataset.read(ref)
    return extract(ref, encoded, dataset.decode(ref, encoded), Extraction(settings, classes, entry), stamp)


def test_stored_pixels_and_masks_are_the_sources_own(photos: Any) -> None:
    photos.add("a")
    bundle = extracted(photos)
    image, labels = np.array(Image.open(photos.image("a"))), np.array(Image.open(photos.label("a")))
    assert len(bundle.segments) == 5
    for row in bundle.segments:
        window = np.s_[row.crop_top : row.crop_bottom, row.crop_left : row.crop_right]
        value = bundle.blobs[blob_key("segment", row.segment_id)]
        mask, pixels = decode_mask(value, "mask"), decode_pixels(value, "pixels")
        assert mask.sum() == row.pixels
        assert (labels[window][mask] == row.class_id).all()
        assert np.array_equal(pixels, np.where(mask[..., None], image[window], 0))


def test_the_source_row_counts_what_there_is(photos: Any) -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[:12] = 255
    labels[40:, :2] = 3
    photos.add("room/a", labels=labels)
    source = extracted(photos).source
    assert (source.source, source.dataset, source.split) == ("folder/room/a", "folder", "train")
    assert source.group == "folder/room/a"
    assert (source.image, source.layout, source.depth) == ("images/room/a.png", "labels/room/a.png", None)
    assert (source.height, source.width, source.void) == (48, 64, 0.25)
    assert (source.components, source.segments, source.small) == (2, 1, 1)
    assert source.stamp == "1:2"


def test_a_source_whose_classes_are_all_void_in_the_bank_has_no_segments(photos: Any) -> None:
    photos.add("a", labels=np.full((48, 64), 5, np.uint8))
    bundle = extracted(photos, renamed={"5": None})
    assert (bundle.source.components, bundle.source.void, bundle.segments) == (0, 1, [])
    assert bundle.tiled.region_class.tolist() == [VOID]


def test_source_files_are_kept_as_they_came_or_not_at_all(photos: Any) -> None:
    photos.add("a", depth=np.full((48, 64), 2000, np.uint16))
    bundle = extracted(photos)
    files = {
        "image": photos.image("a"),
        "layout": photos.label("a"),
        "depth": photos.root / "depths/a.png",
    }
    for kind, path in files.items():
        assert unseal(bundle.blobs[blob_key(kind, bundle.source.source_id)], kind)[1] == path.read_bytes()
    without = extracted(photos, replace(SETTINGS, keep_sources=False))
    assert sorted(without.blobs) == sorted(blob_key("segment", row.segment_id) for row in without.segments)


def test_orderings_name_stored_segments_and_the_nearer_one_is_in_front(photos: Any) -> None:
    labels, depth = np.zeros((48, 64), np.uint8), np.full((48, 64), 4000, np.uint16)
    labels[10:30, 10:30], depth[10:30, 10:30] = 2, 1500
    labels[44:47, 60:63] = 3
    photos.add("a", labels=labels, depth=depth)
    bundle = extracted(photos, WIDE)
    ids = {row.class_id: row.segment_id for row in bundle.segments}
    assert set(ids) == {0, 2}
    [pair] = bundle.orderings
    assert {pair.segment_a, pair.segment_b} == set(ids.values())
    assert {pair.segment_a: pair.class_a, pair.segment_b: pair.class_b} == {id: name for name, id in ids.items()}
    assert (pair.front, pair.origin) == (ids[2], "depth")


@pytest.mark.parametrize(("rule", "front"), [("none", None), ("ground", 1)])
def test_without_depth_the_rule_decides(photos: Any, rule: Any, front: int | None) -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[20:] = 1
    photos.add("a", labels=labels)
    bundle = extracted(photos, replace(WIDE, depth_rule=rule))
    ids = {row.segment_id: row.class_id for row in bundle.segments}
    assert [(ids.get(pair.front), pair.origin) for pair in bundle.orderings] == [(front, rule)]


def test_key_patches_are_numbered_best_first_in_source_pixels(photos: Any) -> None:
    photos.add("a", labels=np.zeros((120, 160), np.uint8))
    image = np.full((120, 160, 3), 60, np.uint8)
    image[30:80, 40:90], image[60:110, 100:150] = (220, 40, 40), (30, 60, 230)
    photos.write(photos.image("a"), image)
    assert extracted(photos).patches == []
    patches = extracted(photos, replace(SETTINGS, patches=PatchSettings(top=2))).patches
    assert patches
    assert [row.rank for row in patches] == list(range(len(patches)))
    assert all(0 <= row.top < row.bottom <= 120 and 0 <= row.left < row.right <= 160 for row in patches)
    assert [row.score for row in patches] == sorted((row.score for row in patches), reverse=True)


def test_content_is_that_of_the_data_and_not_of_the_clock(photos: Any) -> None:
    photos.add("a")
    content = extracted(photos).source.content
    assert extracted(photos, stamp="3:4").source.content == content
    assert extracted(photos, replace(SETTINGS, keep_sources=False)).source.content != content
    image = np.array(Image.open(photos.image("a")))
    image[0, 0] ^= 1
    photos.write(photos.image("a"), image)
    assert extracted(photos).source.content != content


def test_content_is_that_of_all_rows_and_payloads(photos: Any) -> None:
    photos.add("a")
    bundle = extracted(photos, WIDE)
    own = with_content(bundle)
    key = next(key for key in bundle.blobs if key[:1] == b"s")
    other = encode_segment(np.full((2, 3, 3), 7, np.uint8), np.ones((2, 3), bool))
    segments = Rows.joined(SegmentRecord, [bundle.segments])
    segments.columns["area"] = [segments.columns["area"][0] + 1, *segments.columns["area"][1:]]
    changed = [
        replace(bundle, blobs={**bundle.blobs, key: other}),
        replace(bundle, blobs={each: value for each, value in bundle.blobs.items() if each != key}),
        replace(bundle, segments=segments),
        replace(bundle, segments=bundle.segments[1:]),
        replace(bundle, orderings=bundle.orderings[1:]),
        replace(bundle, source=replace(bundle.source, void=bundle.source.void + 0.25)),
    ]
    contents = [with_content(each).source.content for each in (bundle, *changed)]
    assert own.source.content == bundle.source.content
    assert len(set(contents)) == len(contents)
    assert with_content(replace(bundle, segments=bundle.segments[::-1])).source.content == own.source.content


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        ExtractionSettings(Geometry((9, 11), 1, True), "ground", False, PatchSettings(top=5, edge_model="/m.yml.gz")),
    ],
)
def test_settings_come_back_from_json_with_the_same_fingerprint(settings: ExtractionSettings) -> None:
    again = ExtractionSettings.from_json(json.loads(json.dumps(settings.to_json())))
    assert again == settings
    assert again.fingerprint == settings.fingerprint


def test_every_setting_changes_the_fingerprint() -> None:
    others = [
        replace(SETTINGS, geometry=Geometry((24, 33), 16)),
        replace(SETTINGS, geometry=Geometry((24, 32), 17)),
        replace(SETTINGS, geometry=Geometry((24, 32), 16, True)),
        replace(SETTINGS, depth_rule="ground"),
        replace(SETTINGS, keep_sources=False),
        replace(SETTINGS, patches=PatchSettings()),
        replace(SETTINGS, patches=PatchSettings(top=4)),
    ]
    assert len({settings.fingerprint for settings in [SETTINGS, *others]}) == len(others) + 1


def test_a_reject_says_which_files_it_is_about(photos: Any) -> None:
    photos.add("a")
    photos.label("a").unlink()
    row = rejected(open_dataset(photos.spec).sources()[0], "folder-2", "missing-label", "said", None, "1:2")
    assert (row.source, row.dataset, row.image, row.layout) == ("folder-2/a", "folder-2", "images/a.png", None)
    assert (row.reason, row.message, row.source_id, row.stamp) == ("missing-label", "said", None, "1:2")
