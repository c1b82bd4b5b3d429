"""Whatever of a bank is damaged is made again from its sources, to the same bank, and the rest is left alone."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent))

from nights import all_files, content, is_sound, night, reading, rejects, sources, twin

from zeuxis.pipelines.repair import RepairReport, repair
from zeuxis.storage.errors import DatasetError, NotABankError
from zeuxis.storage.manifest import generations, load_current, shard_folder, verify
from zeuxis.storage.parts import LEAVES, part_folder
from zeuxis.storage.shard import APPEARANCE, BLOBS, FOOTPRINTS, MARKER
from zeuxis.storage.stamps import stamps_folder

PARQUET = [f"{table}.parquet" for table in ("sources", "segments", "orderings", "patches", "rejects")]
SHARD_FILES = [BLOBS, FOOTPRINTS, APPEARANCE, MARKER, *PARQUET]


def mend(bank: Path, **options: Any) -> RepairReport:
    return repair(bank, workers=0, **options)


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 7)


WAYS: dict[str, Callable[[Path], None]] = {"flipped": flip, "cut": cut, "removed": Path.unlink}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of some shards with key patches, rejects, a twin and the stamps of a source that was touched."""
    folder = tmp_path_factory.mktemp("made")
    photos = folder / "photos"
    for name in ("images", "labels"):
        (photos / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for name in ("p0", "p1", "p2", "p3", "p4", "p5", "bad"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(photos / f"images/{name}.png")
        labels = np.kron(rng.integers(0, 3, (3, 4)), np.ones((16, 16))).astype(np.uint8)
        Image.fromarray(labels).save(photos / f"labels/{name}.png")
    cut(photos / "images/bad.png")
    (photos / "labels/nolabel.png").write_bytes((photos / "labels/p0.png").read_bytes())
    for kind in ("images", "labels"):
        shutil.copyfile(photos / kind / "p3.png", photos / kind / "twin.png")
    night(f"folder:{photos}", folder / "bank", patches=True, shard_size=4, depth_rule="ground")
    os.utime(photos / "images/p1.png", (1, 1))
    night(f"folder:{photos}", folder / "bank")
    assert load_current(folder / "bank").stamps
    return folder / "bank"


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Path:
    """A copy; its data set is shared, and not to be touched."""
    return Path(shutil.copytree(made, tmp_path / "bank"))


def first_shard(bank: Path) -> Path:
    """The one with the most sources: four, of which one is a twin."""
    entry = max(load_current(bank).shards, key=lambda entry: entry.rows["sources"] * 10 + entry.rows["rejects"])
    return shard_folder(bank) / entry.id


def check_restored(bank: Path, wanted: str, done: RepairReport) -> None:
    assert (done.published, done.lost, done.generation) == (True, [], 3)
    assert content(bank) == wanted
    assert is_sound(bank)
    assert not mend(bank).published


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHARD_FILES)
def test_a_damaged_file_of_a_shard_is_made_again(bank: Path, name: str, way: str) -> None:
    wanted, shard = content(bank), first_shard(bank)
    others = {path: file for path, file in all_files(bank).items() if path[:7] == "shards/" and shard.name not in path}
    WAYS[way](shard / name)
    done = mend(bank)
    assert (done.shards, len(done.damage)) == (1, 1)
    assert str(shard / name) in done.damage[0]
    assert done.n_restored == 3
    check_restored(bank, wanted, done)
    assert others.items() <= all_files(bank).items()


@pytest.mark.parametrize("place", np.linspace(0, 1, 12).round(2).tolist())
def test_a_flipped_bit_anywhere_in_the_list_of_a_shard_is_no_matter(bank: Path, place: float) -> None:
    """What a shard says of itself is not believed where it is damaged, even if it still can be read."""
    wanted, shard = content(bank), first_shard(bank)
    flip(shard / MARKER, place)
    done = mend(bank)
    assert done.shards == 1
    check_restored(bank, wanted, done)


def test_a_shard_that_calls_itself_something_else_is_no_matter(bank: Path) -> None:
    wanted, shard = content(bank), first_shard(bank)
    text = (shard / MARKER).read_text()
    rows = load_current(bank).shards[0].rows["segments"]
    (shard / MARKER).write_text(text.replace(f'"segments": {rows}', f'"segments": {rows + 1}'))
    (shard / MARKER).write_text((shard / MARKER).read_text().replace('"settings": "', '"settings": "a'))
    check_restored(bank, wanted, mend(bank))


def test_a_bank_without_its_shards(six: Any, tmp_path: Path) -> None:
    bank = tmp_path / "own"
    wanted = content(bank)
    shutil.rmtree(shard_folder(bank))
    assert mend(bank).n_restored == 6
    assert content(bank) == wanted
    assert is_sound(bank)


def test_depth_that_is_read_otherwise_is_for_the_rebuild(six: Any, tmp_path: Path) -> None:
    bank = tmp_path / "own"
    six.add("deep", depth=np.random.default_rng(0).integers(1, 9000, (48, 64)).astype(np.uint16))
    night(six.spec, bank)
    flip(shard_folder(bank) / load_current(bank).shards[0].id / BLOBS)
    (six.root / "depth.yaml").write_text("stereo: {baseline_m: 0.22, focal_px: 2262.5}")
    assert mend(bank).lost == []
    assert night(six.spec, bank).n_new == 1, "the rebuild still sees that it is to be ordered anew"
    assert not night(six.spec, bank).published


@pytest.mark.parametrize("way", WAYS)
def test_all_shards_at_once(bank: Path, way: str) -> None:
    wanted = content(bank)
    for path in shard_folder(bank).iterdir():
        WAYS[way](path / FOOTPRINTS)
        WAYS[way](path / "sources.parquet")
    done = mend(bank)
    assert done.n_restored == 6
    check_restored(bank, wanted, done)


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_part_is_made_again_without_reading_a_source(bank: Path, way: str) -> None:
    wanted = content(bank)
    (part,) = load_current(bank).index
    WAYS[way](part_folder(bank) / part.id / LEAVES)
    assert list(verify(bank))
    with reading() as names:
        done = mend(bank)
    assert (names, done.parts, done.shards, done.n_restored) == ([], 1, 0, 0)
    check_restored(bank, wanted, done)


@pytest.mark.parametrize("way", WAYS)
def test_damaged_stamps_are_given_up(bank: Path, way: str) -> None:
    """All they do is to save work: what was touched is read once more."""
    wanted, stamps = content(bank), load_current(bank).stamps
    assert stamps is not None
    WAYS[way](stamps_folder(bank) / stamps.name)
    done = mend(bank)
    assert (done.shards, done.parts, done.n_restored) == (0, 0, 0)
    check_restored(bank, wanted, done)
    spec = f"folder:{load_current(bank).datasets[0].root}"
    with reading() as names:
        assert night(spec, bank).n_reused == 6
        assert not night(spec, bank).published
    assert names == ["p1"]


def test_all_kinds_of_damage_at_once(bank: Path) -> None:
    wanted = content(bank)
    for path in bank.rglob("*"):
        if path.is_file() and not path.name.startswith(("MANIFEST", "WRITER")):
            flip(path)
    check_restored(bank, wanted, mend(bank))


def test_where_nothing_is_damaged_nothing_is_read_or_written(bank: Path) -> None:
    before = all_files(bank)
    with reading() as names:
        done = mend(bank)
    assert (names, done.published, done.generation, done.damage) == ([], False, 2, [])
    assert all_files(bank) == before


def test_what_is_no_bank_is_not_repaired(tmp_path: Path) -> None:
    with pytest.raises(NotABankError):
        mend(tmp_path)
    assert list(tmp_path.iterdir()) == []


# sources that are no longer what they were


@pytest.fixture
def six(photos: Any, tmp_path: Path) -> Any:
    photos.add(*(f"p{number}" for number in range(6)))
    night(photos.spec, tmp_path / "own", shard_size=3)
    return photos


def test_a_source_that_is_gone_is_lost_and_named(six: Any, tmp_path: Path) -> None:
    bank = tmp_path / "own"
    six.remove("p1", "p5")
    six.add("new")
    flip(shard_folder(bank) / load_current(bank).shards[0].id / BLOBS)
    done = mend(bank)
    assert (done.lost, done.n_restored) == (["folder/p1"], 2)
    assert sources(bank) == [f"folder/p{number}" for number in (0, 2, 3, 4, 5)], "what is sound or new is left alone"
    assert is_sound(bank)


def test_a_source_that_has_changed_comes_as_it_is_now_or_is_a_reject(six: Any, tmp_path: Path) -> None:
    bank = tmp_path / "own"
    six.write(six.label("p0"), np.full((48, 64), 9, np.uint8))
    cut(six.image("p1"))
    six.write(six.label("p4"), np.full((48, 64), 9, np.uint8))
    flip(shard_folder(bank) / load_current(bank).shards[0].id / BLOBS)
    done = mend(bank)
    assert (done.n_restored, done.n_rejected, done.lost) == (2, 1, [])
    assert rejects(bank) == {"folder/p1": "unreadable-image"}
    assert is_sound(bank)


def test_what_was_forgotten_is_not_restored(six: Any, tmp_path: Path) -> None:
    from zeuxis.pipelines.forget import forget

    bank = tmp_path / "own"
    forget("folder/p1", bank)
    twin(six, "again", "p1")
    for path in shard_folder(bank).iterdir():
        (path / "sources.parquet").unlink()
    done = mend(bank)
    assert (done.n_restored, done.lost) == (5, [])
    assert "folder/p1" not in sources(bank)
    assert "folder/again" not in sources(bank)


def test_a_data_set_that_is_away_is_named_and_only_where_it_is_needed(
    six: Any, more_photos: Any, tmp_path: Path
) -> None:
    bank = tmp_path / "own"
    more_photos.add("m0", "m1")
    night(more_photos.spec, bank)
    wanted = content(bank)
    first, *_, last = (shard_folder(bank) / entry.id / BLOBS for entry in load_current(bank).shards)
    more_photos.root.rename(tmp_path / "away")
    flip(first)
    mend(bank)
    assert content(bank) == wanted
    flip(last)
    before = generations(bank)
    with pytest.raises(DatasetError, match=str(more_photos.root)):
        mend(bank)
    assert generations(bank) == before
