"""Sealed values: what goes in comes out, and whatever is damaged is named and never decoded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeuxis.storage import codec
from zeuxis.storage.codec import (
    Codec,
    check_value,
    checksums,
    decode_mask,
    decode_pixels,
    encode_segment,
    encode_segments,
    seal,
    unseal,
)
from zeuxis.storage.cutting import find_runs
from zeuxis.storage.errors import DamagedBankError, InputError

GOLDEN_SEALED = bytes.fromhex("5a585600010003000000e2cd1feb616263")
"""`abc` sealed as RAW in format version 1."""

GOLDEN_SEGMENT = (
    "5a585600010113000000d71e33a6020000000300000028b52ffd2002110000a0605a585600010223000000a2e9843602"
    "0000000300000028b52ffd201291000002fe00fe0bf6fff80401ff0601ff07ff01f9"
)
"""A 2x3 segment of format version 1; what zstd makes of it may change, that it can be read may not."""


def make_segment(height, width, share, seed):
    """A smooth crop with noise, and a mask of about the given share of its pixels."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + [0, 40, 90]
    pixels = (ramp + rng.integers(0, 30, (height, width, 3))).astype(np.uint8)
    return pixels, rng.random((height, width)) < share


def assert_round_trip(pixels, mask):
    value = encode_segment(pixels, mask)
    found_mask, found_pixels = decode_mask(value, "x"), decode_pixels(value, "x")
    assert found_mask.dtype == bool
    assert found_pixels.dtype == np.uint8
    np.testing.assert_array_equal(found_mask, mask)
    np.testing.assert_array_equal(found_pixels, np.where(mask[..., None], pixels, 0))


def test_sealed_bytes_do_not_change_silently():
    assert seal(Codec.RAW, b"abc") == GOLDEN_SEALED
    assert {c.name: c.value for c in Codec} == {"RAW": 0, "MASK": 1, "PIXELS": 2}


def test_a_segment_written_by_this_format_stays_readable():
    value = bytes.fromhex(GOLDEN_SEGMENT)
    np.testing.assert_array_equal(decode_mask(value, "x"), [[True, False, True], [False, True, True]])
    expected = [[[1, 2, 3], [0, 0, 0], [250, 0, 7]], [[0, 0, 0], [9, 9, 9], [255, 255, 255]]]
    np.testing.assert_array_equal(decode_pixels(value, "x"), expected)


@settings(deadline=None)
@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), labels=st.integers(1, 5), seed=st.integers(0, 1000))
def test_segments_of_a_photograph_are_encoded_as_each_by_itself(size, labels, seed):
    rng = np.random.default_rng(seed)
    shown = rng.integers(0, labels + 1, size).astype(np.uint32)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    there = [label for label in range(1, labels + 1) if (shown == label).any()][::-1]
    boxes = []
    for label in there:
        rows, cols = np.nonzero(shown == label)
        boxes.append((rows.min(), cols.min(), rows.max() + 1, cols.max() + 1))
    found = encode_segments(
        image, find_runs(shown, np.uint32(0)), np.array(there, int), np.array(boxes, np.int32).reshape(-1, 4)
    )
    for label, (top, left, bottom, right), value in zip(there, boxes, found, strict=True):
        window = np.s_[top:bottom, left:right]
        assert value == encode_segment(image[window], shown[window] == label)


def test_checksums_tell_masks_and_pixels_apart():
    pixels, mask = make_segment(9, 12, 0.5, 3)
    others = [(pixels, mask), (pixels ^ np.uint8(1), mask), (pixels, ~mask), (pixels[:-1], mask[:-1])]
    found = {checksums(encode_segment(*each)) for each in others}
    assert len(found) == len(others)
    assert {len(each) for each in found} == {28}
    assert checksums(encode_segment(pixels, mask)) in found


@given(payload=st.binary(max_size=200), kind=st.sampled_from(Codec))
def test_sealing_round_trip(payload, kind):
    for value in (seal(kind, payload), memoryview(seal(kind, payload))):
        found, view = unseal(value, "x")
        assert found is kind
        assert bytes(view) == payload


@settings(deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_segment_round_trip_is_exact(height, width, share, seed):
    assert_round_trip(*make_segment(height, width, share, seed))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 8), (7, 9), (65, 257)])
def test_awkward_sizes_and_empty_mask_columns(shape):
    pixels, mask = make_segment(*shape, 0.7, 1)
    mask[:, shape[1] // 3 : 1 + shape[1] // 2] = False
    assert_round_trip(pixels, mask)


def test_sound_values_pass_the_check():
    check_value(seal(Codec.RAW, b""), "x")
    check_value(memoryview(encode_segment(*make_segment(8, 9, 0.5, 9))), "x")


@pytest.mark.parametrize(
    "window", [np.s_[3:40, 5:50], np.s_[::2, ::3], np.s_[::-1, ::-1]], ids=["crop", "steps", "reversed"]
)
def test_windows_into_larger_arrays(window):
    pixels, mask = make_segment(60, 70, 0.5, 2)
    pixels.flags.writeable = mask.flags.writeable = False
    assert_round_trip(pixels[window], mask[window])
    assert_round_trip(np.asfortranarray(pixels), np.asfortranarray(mask))
    assert_round_trip(pixels[..., ::-1], mask)


def test_crops_too_large_for_one_summed_area_table(monkeypatch):
    pixels, mask = make_segment(37, 20, 0.8, 3)
    for samples in (1, 40, 130, 500):
        monkeypatch.setattr(codec, "_INTEGRAL_BYTES", samples)
        assert_round_trip(pixels, mask)


def test_noise_that_does_not_compress_round_trips():
    pixels = np.random.default_rng(4).integers(0, 256, (33, 77, 3)).astype(np.uint8)
    assert_round_trip(pixels, np.ones((33, 77), bool))


def test_mask_is_readable_when_the_pixels_are_damaged():
    pixels, mask = make_segment(20, 30, 0.5, 5)
    value = bytearray(encode_segment(pixels, mask))
    value[-1] ^= 1
    np.testing.assert_array_equal(decode_mask(bytes(value), "x"), mask)
    with pytest.raises(DamagedBankError, match="checksum"):
        decode_pixels(bytes(value), "x")


def test_decoded_pixels_belong_to_the_caller():
    value = encode_segment(*make_segment(9, 9, 0.5, 6))
    decode_pixels(value, "x")[:] = 0
    decode_mask(value, "x")[:] = False


@pytest.mark.parametrize("value", [seal(Codec.RAW, b"some bytes"), encode_segment(*make_segment(5, 4, 0.5, 7))])
def test_every_cut_and_every_flipped_bit_is_found(value):
    damaged = [value[:size] for size in range(len(value))] + [value + b"\0"]
    for bit in range(8 * len(value)):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for altered in damaged:
        with pytest.raises(DamagedBankError):
            check_value(altered, "segment 7")


def test_a_segment_without_its_pixels_is_damaged():
    value = encode_segment(*make_segment(5, 4, 0.5, 7))
    mask_only = value[: 14 + int.from_bytes(value[6:10], "little")]
    unseal(mask_only, "x")
    for read in (check_value, decode_pixels):
        with pytest.raises(DamagedBankError, match="too few"):
            read(mask_only, "x")


@given(junk=st.binary(max_size=120) | st.binary(max_size=60).map(lambda tail: GOLDEN_SEALED[:6] + tail))
def test_arbitrary_bytes_raise_one_kind_of_error(junk):
    for read in (unseal, check_value, decode_mask, decode_pixels):
        with pytest.raises(DamagedBankError):
            read(junk, "x")


@settings(deadline=None)
@given(payload=st.binary(max_size=60), rows=st.integers(0, 2**32 - 1), columns=st.integers(0, 40))
def test_a_sound_envelope_around_nonsense_raises_the_same_error(payload, rows, columns):
    size = rows.to_bytes(4, "little") + columns.to_bytes(4, "little")
    for body in (payload, size + payload):
        parts = seal(Codec.MASK, body), seal(Codec.PIXELS, body)
        with pytest.raises(DamagedBankError):
            decode_mask(parts[0], "x")
        with pytest.raises(DamagedBankError):
            decode_pixels(parts[0] + parts[1], "x")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "too few"),
        (b"PNG!" + GOLDEN_SEALED[4:], "starts with"),
        (GOLDEN_SEALED[:4] + b"\x02" + GOLDEN_SEALED[5:], "format version 2"),
        (GOLDEN_SEALED[:5] + b"\x63" + GOLDEN_SEALED[6:], "codec 99"),
        (GOLDEN_SEALED[:-1], "cut short"),
        (GOLDEN_SEALED + b"more", "4 bytes follow"),
        (GOLDEN_SEALED[:-1] + b"d", "checksum"),
    ],
)
def test_the_message_names_the_value_and_what_is_wrong(value, said):
    with pytest.raises(DamagedBankError, match=f"^image of source 12: .*{said}") as caught:
        unseal(value, "image of source 12")
    assert "\n" not in str(caught.value)


def test_values_of_the_wrong_kind_are_refused():
    with pytest.raises(DamagedBankError, match="RAW where MASK"):
        decode_mask(GOLDEN_SEALED, "x")
    with pytest.raises(DamagedBankError, match="RAW where PIXELS"):
        decode_pixels(GOLDEN_SEALED + GOLDEN_SEALED, "x")
    with pytest.raises(DamagedBankError, match="follow its end"):
        unseal(encode_segment(*make_segment(4, 4, 0.5, 8)), "x")


@pytest.mark.parametrize(("pixels", "mask"), [((4, 5, 3), (5, 4)), ((4, 5, 4), (4, 5)), ((0, 5, 3), (0, 5))])
def test_a_crop_and_mask_that_do_not_match_are_refused(pixels, mask):
    with pytest.raises(InputError, match="segment: expected"):
        encode_segment(np.zeros(pixels, np.uint8), np.zeros(mask, bool))


def test_size_that_no_picture_has_is_refused_before_memory_is_taken():
    value = seal(Codec.MASK, (2**20).to_bytes(4, "little") * 2)
    with pytest.raises(DamagedBankError, match="cannot be"):
        decode_mask(value, "x")


@pytest.mark.parametrize("size", [(2, 3), (2, 30), (200, 3)])
def test_size_and_compressed_content_must_agree(size):
    value = encode_segment(*make_segment(5, 4, 0.5, 10))
    length = int.from_bytes(value[6:10], "little")
    lying = b"".join(
        seal(kind, size[0].to_bytes(4, "little") + size[1].to_bytes(4, "little") + bytes(part)[8:])
        for kind, part in (unseal(value[: 14 + length], "x"), unseal(value[14 + length :], "x"))
    )
    for read in (decode_mask, decode_pixels):
        with pytest.raises(DamagedBankError, match="cannot be decompressed"):
            read(lying, "x")
