"""Whatever is wrong with one source becomes one reject with its reason, and the others get in."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent))

from nights import night

from zeuxis.ingest.extract import extract
from zeuxis.pipelines.rebuild import RebuildReport
from zeuxis.storage.errors import DatasetError, InputError
from zeuxis.storage.manifest import generations
from zeuxis.storage.reader import Reader

Run = Callable[..., RebuildReport]
Spoil = Callable[[Any, Path, Path], None]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return tmp_path / "bank"


def rejects(bank: Path) -> dict[str, dict[str, Any]]:
    rows = Reader(bank).table("rejects").to_pylist()
    found = {row["source"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture
def rebuild_bank(bank: Path) -> Run:
    """A night in this process, whose geometry is set when the bank is made."""
    return lambda dataset, **options: night(dataset, bank, **options)


def sources(bank: Path) -> list[str]:
    return sorted(Reader(bank).table("sources", columns=["source"])["source"].to_pylist())


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def rgb_labels(photos: Any, image: Path, label: Path) -> None:
    photos.write(label, np.full((48, 64, 3), 9, np.uint8))


def jpeg_labels(photos: Any, image: Path, label: Path) -> None:
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(label, format="JPEG")


def same_bytes(photos: Any, image: Path, label: Path) -> None:
    image.write_bytes(photos.image("a-good").read_bytes())
    label.write_bytes(photos.label("a-good").read_bytes())


def depth_of(array: np.ndarray) -> Spoil:
    def spoil(photos: Any, image: Path, label: Path) -> None:
        photos.write(photos.root / "depths" / label.name, array)

    return spoil


def fake_depth(photos: Any, image: Path, label: Path) -> None:
    (photos.root / "depths").mkdir(exist_ok=True)
    (photos.root / "depths" / label.name).write_bytes(b"deep")


def labels_of(array: np.ndarray) -> Spoil:
    return lambda photos, image, label: photos.write(label, array)


BAD: Mapping[str, tuple[str, Spoil, str]] = {
    "no-label": ("missing-label", lambda photos, image, label: label.unlink(), "a label map of the same name"),
    "no-image": ("missing-image", lambda photos, image, label: image.unlink(), "an image of the same name"),
    "twin-name": (
        "duplicate-name",
        lambda photos, image, label: photos.write(image.with_suffix(".bmp"), np.zeros((48, 64, 3), np.uint8)),
        "twin-name.png",
    ),
    "twin-bytes": ("duplicate", same_bytes, "folder/a-good"),
    "cut-image": ("unreadable-image", lambda photos, image, label: cut_short(image), "cannot be decoded"),
    "fake-image": ("unreadable-image", lambda photos, image, label: image.write_bytes(b"GIF? no"), "b'GIF?'"),
    "empty-image": ("unreadable-image", lambda photos, image, label: image.write_bytes(b""), "an empty file"),
    "cut-label": ("unreadable-label", lambda photos, image, label: cut_short(label), "cannot be decoded"),
    "fake-label": ("unreadable-label", lambda photos, image, label: label.write_bytes(b"text"), "b'text'"),
    "jpeg-label": ("unreadable-label", jpeg_labels, "a JPEG"),
    "label-size": ("size-mismatch", labels_of(np.zeros((48, 65), np.uint8)), "48x65"),
    "rgb-label": ("rgb-without-palette", rgb_labels, "no palette"),
    "id-300": ("unknown-id", labels_of(np.full((48, 64), 300, np.uint16)), "300 (3072 pixels)"),
    "all-void": ("all-void", labels_of(np.full((48, 64), 255, np.uint8)), "only void"),
    "depth-size": ("size-mismatch", depth_of(np.ones((24, 32), np.uint16)), "24x32"),
    "fake-depth": ("unreadable-depth", fake_depth, "b'deep'"),
}
"""Name of a source to the reason of its reject, what is done to its files, and words of the sentence."""


@pytest.fixture
def all_bad(photos: Any) -> Any:
    """A folder with one source of every fault, and three good ones among them."""
    photos.add("a-good", "m-good", "z-good", *BAD)
    for name, (_, spoil, _) in BAD.items():
        spoil(photos, photos.image(name), photos.label(name))
    return photos


@pytest.mark.parametrize("shard_size", [1, 5, 128])
def test_every_fault_is_a_reject_and_the_others_get_in(
    rebuild_bank: Run, all_bad: Any, bank: Path, shard_size: int
) -> None:
    report = rebuild_bank(all_bad.spec, shard_size=shard_size)
    assert (report.n_in, report.n_new, report.n_reused, report.n_rejected) == (len(BAD) + 3, 3, 0, len(BAD))
    assert sources(bank) == ["folder/a-good", "folder/m-good", "folder/z-good"]
    found = rejects(bank)
    assert {source: row["reason"] for source, row in found.items()} == {
        f"folder/{name}": reason for name, (reason, _, _) in BAD.items()
    }
    for name, (_, _, words) in BAD.items():
        message = found[f"folder/{name}"]["message"]
        assert words in message
        assert name in message
        assert "\n" not in message
    assert sum(report.reasons.values()) == len(BAD) == len(report.rejects)
    assert set(report.rejects) == {row["message"] for row in found.values()}


def test_rejects_stay_until_their_bytes_change(rebuild_bank: Run, all_bad: Any, bank: Path) -> None:
    rebuild_bank(all_bad.spec)
    for rehash in (False, True):
        report = rebuild_bank(all_bad.spec, rehash=rehash)
        assert (report.published, report.n_reused, report.n_rejected) == (False, 3, len(BAD))
        assert sum(report.reasons.values()) == len(BAD)
    found = rejects(bank)
    for path in all_bad.root.rglob("*.png"):
        os.utime(path, (1, 1))
    assert rebuild_bank(all_bad.spec).published, "their new stamps are kept"
    assert not rebuild_bank(all_bad.spec).published
    without = [{name: {**row, "stamp": ""} for name, row in each.items()} for each in (found, rejects(bank))]
    assert without[0] == without[1]
    all_bad.image("twin-name").with_suffix(".bmp").unlink()
    all_bad.add(*set(BAD) - {"depth-size", "fake-depth"})
    for name in ("depth-size", "fake-depth"):
        (all_bad.root / "depths" / f"{name}.png").unlink()
    report = rebuild_bank(all_bad.spec)
    assert (report.n_new, report.n_reused, report.n_rejected) == (len(BAD), 3, 0)
    assert rejects(bank) == {}
    assert len(sources(bank)) == len(BAD) + 3


def test_a_duplicate_comes_in_when_its_twin_goes(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add(*(f"{number:02}" for number in range(10)))
    for kind in (photos.image, photos.label):
        kind("twin").write_bytes(kind("04").read_bytes())
    assert rebuild_bank(photos.spec).reasons == {"duplicate": 1}
    photos.remove("04")
    report = rebuild_bank(photos.spec)
    assert (report.n_new, report.n_reused, report.n_rejected, report.n_vanished) == (1, 9, 0, 1)
    assert "folder/twin" in sources(bank)
    assert rejects(bank) == {}


def test_a_good_source_that_becomes_bad_leaves_the_bank(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a", "b", "c")
    rebuild_bank(photos.spec)
    cut_short(photos.label("b"))
    report = rebuild_bank(photos.spec)
    assert (report.n_new, report.n_reused, report.n_rejected) == (0, 2, 1)
    assert sources(bank) == ["folder/a", "folder/c"]
    assert rejects(bank)["folder/b"]["reason"] == "unreadable-label"


def test_labels_of_sixteen_bits_and_palettes_are_indices(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 32:] = 254
    photos.add("sixteen", labels=labels.astype(np.uint16))
    photos.add("palette", labels=labels)
    picture = Image.fromarray(labels, mode="L").convert("P")
    picture.putdata(labels.ravel())
    picture.putpalette([7, 7, 7] * 256)
    picture.save(photos.label("palette"))
    report = rebuild_bank(photos.spec)
    assert (report.n_new, report.segments) == (2, 4)
    assert set(Reader(bank).table("segments")["class_id"].to_pylist()) == {0, 254}


def test_ids_beyond_a_class_list_are_counted_by_id(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a", labels=np.zeros((48, 64), np.uint8))
    labels = np.zeros((48, 64), np.uint8)
    labels[0, :5] = 4
    photos.add("b", labels=labels)
    (photos.root / "classes.csv").write_text("id,name\n0,sky\n")
    assert rebuild_bank(photos.spec).reasons == {"unknown-id": 1}
    assert "4 (5 pixels)" in rejects(bank)["folder/b"]["message"]


def test_a_file_that_cannot_be_read_is_a_reject(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    memory = Path("/proc/self/mem")  # opens, and fails when it is read, whoever reads
    if not memory.exists():
        pytest.skip("no /proc")
    photos.add("a", "b")
    photos.image("b").unlink()
    photos.image("b").symlink_to(memory)
    assert rebuild_bank(photos.spec).reasons == {"unreadable-file": 1}
    assert not rebuild_bank(photos.spec).published
    photos.image("b").unlink()
    photos.add("b")
    assert rebuild_bank(photos.spec).n_new == 1


@pytest.mark.parametrize("kind", ["missing-label", "unreadable-image", "unreadable-label"])
def test_a_data_set_without_one_usable_source_is_refused(rebuild_bank: Run, photos: Any, bank: Path, kind: str) -> None:
    photos.add("a", "b")
    for name in "ab":
        if kind == "missing-label":
            photos.label(name).unlink()
        elif kind == "unreadable-image":
            photos.image(name).write_bytes(b"text")
        else:
            cut_short(photos.label(name))
    with pytest.raises(DatasetError, match=r"no usable source, for example .*/a\.png") as caught:
        rebuild_bank(photos.spec)
    assert "\n" not in str(caught.value)
    assert generations(bank) == []
    photos.add("a", "b")
    assert rebuild_bank(photos.spec).n_new == 2


def test_a_bank_whose_every_source_has_become_bad_stays_as_it_was(rebuild_bank: Run, photos: Any, bank: Path) -> None:
    photos.add("a", "b")
    rebuild_bank(photos.spec)
    for name in "ab":
        cut_short(photos.label(name))
    with pytest.raises(DatasetError, match="no usable source"):
        rebuild_bank(photos.spec)
    assert generations(bank) == [1]
    assert len(sources(bank)) == 2


class Odd(Exception):
    """An exception that nobody foresaw."""


@pytest.mark.parametrize("error", [Odd, KeyError, MemoryError, OSError, AssertionError])
def test_an_unexpected_exception_costs_one_source_and_not_its_shard(
    rebuild_bank: Run, photos: Any, bank: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    photos.add("a", "b", "c")

    def extract_all_but_b(ref: Any, *args: Any) -> Any:
        if ref.name == "b":
            raise error("surprise")
        return extract(ref, *args)

    monkeypatch.setattr("zeuxis.pipelines.extraction.extract", extract_all_but_b)
    report = rebuild_bank(photos.spec)
    assert (report.n_new, report.n_rejected, report.reasons) == (2, 1, {"crashed": 1})
    message = rejects(bank)["folder/b"]["message"]
    assert error.__name__ in message
    assert str(photos.image("b")) in message


def test_a_source_that_changes_while_it_is_read_is_tried_again_next_time(
    rebuild_bank: Run, photos: Any, bank: Path
) -> None:
    photos.add("a", "b")
    before = photos.label("b").read_bytes()

    def change(done: int, total: int, note: str = "") -> None:
        if note == "starting workers":
            photos.write(photos.label("b"), np.full((48, 64), 9, np.uint8))

    assert rebuild_bank(photos.spec, progress=change).reasons == {"changed": 1}
    photos.label("b").write_bytes(before)
    report = rebuild_bank(photos.spec)
    assert (report.n_new, report.n_reused, report.n_rejected) == (1, 1, 0)


def test_files_that_belong_to_no_source_are_counted_as_ignored(rebuild_bank: Run, photos: Any) -> None:
    photos.add("a")
    (photos.root / "images/.DS_Store").write_bytes(b"")
    (photos.root / "images/notes.txt").write_text("hello")
    report = rebuild_bank(photos.spec)
    assert (report.n_in, report.n_rejected, report.ignored) == (1, 0, 2)


def test_an_edge_model_that_is_missing_is_refused(rebuild_bank: Run, photos: Any, tmp_path: Path) -> None:
    photos.add("a")
    with pytest.raises(InputError, match=r"model\.yml: cannot be read"):
        rebuild_bank(photos.spec, patches=True, edge_model=tmp_path / "model.yml")
    assert not (tmp_path / "bank" / "MANIFEST-000001.json").exists()
