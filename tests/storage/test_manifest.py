"""Generations: one winner a number, every damage found, only what nobody names is garbage."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toybank import FRAME, add_shard, make_bank, publish_shards, toy_bundle, toy_manifest, write_shard

from zeuxis.pipelines.indexing import index_shards
from zeuxis.storage import files
from zeuxis.storage.checks import file_entry
from zeuxis.storage.errors import BankBusyError, DamagedBankError, NotABankError, SchemaError
from zeuxis.storage.leaves import Leaves
from zeuxis.storage.manifest import (
    Manifest,
    collect_garbage,
    generations,
    load_current,
    manifest_path,
    publish,
    shard_folder,
    verify,
)
from zeuxis.storage.parts import LEAVES, PartEntry, part_folder
from zeuxis.storage.reader import Reader
from zeuxis.storage.shard import SCHEMA, blob_key
from zeuxis.storage.shard_writer import ShardWriter, SourceBundle

WRITERS = 8


def swapped(bundle: SourceBundle) -> SourceBundle:
    """Two segments of different size have each other's value."""
    size = {blob_key("segment", row.segment_id): row.pixels for row in bundle.segments}
    one, other = min(size, key=size.__getitem__), max(size, key=size.__getitem__)
    return replace(bundle, blobs={**bundle.blobs, one: bundle.blobs[other], other: bundle.blobs[one]})


def without(bundle: SourceBundle, kind: bytes) -> SourceBundle:
    key = next(key for key in bundle.blobs if key.startswith(kind))
    return replace(bundle, blobs={other: value for other, value in bundle.blobs.items() if other != key})


def moved(bundle: SourceBundle) -> SourceBundle:
    """The search columns have other boxes than the rows."""
    rows = [replace(row, top=row.top + 1) for row in bundle.segments]
    return replace(bundle, segments=rows)


DEFECTS: dict[str, tuple[Callable[[SourceBundle], SourceBundle], str]] = {
    "swapped values": (swapped, "pixels"),
    "a segment without value": (lambda bundle: without(bundle, b"s"), "has no value"),
    "a source without its layout": (lambda bundle: without(bundle, b"l"), "lacks its layout"),
    "a segment without row": (
        lambda bundle: replace(bundle, blobs={**bundle.blobs, b"s" + bytes(8): next(iter(bundle.blobs.values()))}),
        "belongs to no segment and no source",
    ),
    "a row with a value of another kind": (
        lambda bundle: replace(bundle, blobs=dict.fromkeys(bundle.blobs, bundle.blobs[sorted(bundle.blobs)[0]])),
        "MASK",
    ),
    "other search columns": (moved, "box is not that of segments.parquet, first in row 0"),
    "fewer rows than search columns": (
        lambda bundle: replace(bundle, segments=bundle.segments[1:]),
        "segments, as there are rows",
    ),
}


def test_a_manifest_comes_back_from_its_bytes(finished_bank):
    manifest = load_current(finished_bank)
    again = Manifest.from_bytes(manifest.to_bytes(), Path("x"))
    assert again == manifest
    assert json.loads(manifest.to_bytes())["frame"] == list(FRAME)


def test_a_sound_bank_verifies_clean_and_tells_its_progress(finished_bank):
    told: list[tuple[int, int]] = []
    assert list(verify(finished_bank, deep=True, progress=lambda done, total: told.append((done, total)))) == []
    count = sum(len(entry.files) for entry in load_current(finished_bank).shards)
    assert told == [(done, count) for done in range(1, count + 1)]


def test_one_of_eight_writers_of_a_generation_wins(bank):
    """Without the writer lock, which a network disk may not honour: the link alone decides."""
    shards = load_current(bank).shards
    for generation in range(2, 7):
        starting, start = os.pipe()
        children = []
        for number in range(WRITERS):
            child = os.fork()
            if child == 0:
                os.close(start)
                os.read(starting, 1)  # returns when the parent closes its end: all start at once
                try:
                    publish(bank, replace(toy_manifest(generation, shards), made={"writer": str(number)}))
                    os._exit(0)
                except BankBusyError:
                    os._exit(3)
                except BaseException:
                    os._exit(1)
            children.append(child)
        os.close(starting)
        os.close(start)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert sorted(codes) == [0] + [3] * (WRITERS - 1)
        current = load_current(bank)
        assert current.generation == generation
        assert current.made == {"writer": str(codes.index(0))}, "the loser's manifest stands"
    assert not [path for path in bank.iterdir() if path.name.startswith(".tmp-")]


def test_a_failed_link_publishes_nothing_and_leaves_nothing(bank, monkeypatch):
    before = sorted(path.name for path in bank.iterdir())
    monkeypatch.setattr(files, "operations", 0)
    monkeypatch.setenv("ZEUXIS_FAULT", "4:ENOSPC")  # write, fsync, fsync of the shards' folder, link
    with pytest.raises(OSError, match="No space"):
        publish(bank, toy_manifest(2, load_current(bank).shards))
    assert sorted(path.name for path in bank.iterdir()) == before


def test_what_a_manifest_names_is_durable_before_it_is(bank, monkeypatch):
    done: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(file: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{file}"))
        real_fsync(file)

    def link(source: Path, target: Path) -> None:
        done.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    publish(bank, toy_manifest(2, load_current(bank).shards))
    assert [Path(name).name[:5] for name in done] == [".tmp-", "shard", "link", "bank"]


class TestDamage:
    def test_verify_names_the_file_of_every_flipped_byte(self, bank):
        flipped = 0
        for path in sorted((bank / "shards").rglob("*")):
            if not path.is_file():
                continue
            whole = path.read_bytes()
            step = max(len(whole) // 12, 1)
            for place in {0, len(whole) - 1, *range(step // 2, len(whole), step)}:
                path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
                (damage,) = verify(bank)
                assert damage.startswith(f"{path}: expected ")
                flipped += 1
            path.write_bytes(whole)
        assert flipped > 150
        assert list(verify(bank)) == []

    def test_every_flipped_byte_of_the_manifest_is_refused(self, bank):
        path = manifest_path(bank, 1)
        whole = path.read_bytes()
        for place in range(0, len(whole), 3):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 7)]) + whole[place + 1 :])
            with pytest.raises((DamagedBankError, NotABankError, SchemaError), match=path.name):
                load_current(bank)
        for size in range(0, len(whole), 101):
            path.write_bytes(whole[:size])
            with pytest.raises(DamagedBankError, match=path.name):
                list(verify(bank))

    def test_every_missing_cut_and_lengthened_file_is_named_in_one_go(self, bank):
        folder = shard_folder(bank) / load_current(bank).shards[0].id
        (folder / "segments.parquet").unlink()
        os.truncate(folder / "blobs" / "data.mdb", 4096)
        with open(folder / "shard.json", "a") as file:
            file.write(" ")
        damage = list(verify(bank, deep=True))
        assert len(damage) == 3
        for name in ("segments.parquet: cannot be read", "data.mdb: expected", "shard.json: expected"):
            assert sum(name in line for line in damage) == 1

    def test_a_missing_shard_is_named(self, bank):
        entries = load_current(bank).shards
        shutil.rmtree(shard_folder(bank) / entries[1].id)
        damage = list(verify(bank, deep=True))
        assert len(damage) == len(entries[1].files)
        assert all(entries[1].id in line for line in damage)
        with pytest.raises(DamagedBankError, match=entries[1].id):
            Reader(bank)

    def test_deep_finds_a_value_that_was_written_wrong(self, bank):
        """The file is as it was published; the value in it never was sound."""
        bundle = toy_bundle(5)
        key, value = max(bundle.blobs.items())
        sealed = bytes([*value[:-1], value[-1] ^ 1])
        with ShardWriter(shard_folder(bank), "s", FRAME) as writer:
            writer.add(replace(bundle, blobs={**bundle.blobs, key: sealed}))
            entry = writer.publish()
        publish_shards(bank, 2, [*load_current(bank).shards, entry])
        assert list(verify(bank)) == []
        (damage,) = verify(bank, deep=True)
        assert key.hex() in damage
        assert entry.id in damage

    @pytest.mark.parametrize("defect", DEFECTS)
    def test_deep_finds_what_was_written_and_does_not_belong_together(self, bank, defect):
        """All files are as they were published; sizes and hashes have nothing to say."""
        change, said = DEFECTS[defect]
        with ShardWriter(shard_folder(bank), "s", FRAME) as writer:
            writer.add(change(toy_bundle(6)))
            entry = writer.publish()
        publish(bank, toy_manifest(2, [*load_current(bank).shards, entry]))
        assert list(verify(bank)) == []
        damage = list(verify(bank, deep=True))
        assert any(said in line for line in damage), damage
        assert all(entry.id in line for line in damage), damage

    def test_deep_counts_the_rows_of_every_table(self, bank):
        shards = load_current(bank).shards
        wrong = replace(shards[0], rows={**shards[0].rows, "orderings": 9999})
        publish(bank, toy_manifest(2, [wrong, shards[1]]))
        (damage,) = verify(bank, deep=True)
        assert "orderings.parquet: expected 9,999 rows, found " in damage

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", "null", '{"format": "other"}', "\udcff", '{"format": "zeuxis-bank", "schema": 1}']
    )
    def test_another_file_of_that_name_is_named_in_one_sentence(self, bank, text):
        manifest_path(bank, 1).write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises((DamagedBankError, NotABankError), match=r"MANIFEST-000001\.json: ") as caught:
            load_current(bank)
        assert "\n" not in str(caught.value)

    def test_a_signed_manifest_that_lacks_a_part_is_damaged(self, bank, monkeypatch):
        row = {name: part for name, part in load_current(bank).to_json().items() if name != "shards"}
        monkeypatch.setattr(Manifest, "to_json", lambda self: row)
        data = toy_manifest(1, ()).to_bytes()
        with pytest.raises(DamagedBankError, match=r"lacks a part .*shards"):
            Manifest.from_bytes(data, Path("x"))

    def test_a_manifest_that_is_a_folder_is_damaged(self, bank):
        manifest_path(bank, 2).mkdir()
        with pytest.raises(DamagedBankError, match=r"MANIFEST-000002\.json: cannot be read"):
            load_current(bank)


@pytest.fixture(scope="module")
def indexed(finished_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`finished_bank` with an index part over both shards. Not to be written to."""
    bank = Path(shutil.copytree(finished_bank, tmp_path_factory.mktemp("indexed") / "bank"))
    current = load_current(bank)
    publish(bank, replace(current, generation=2, index=index_shards(bank, FRAME, current.shards)))
    return bank


class TestIndexDamage:
    """Parts whose files are sound and that are not those of their shards."""

    def damage(self, bank: Path, *parts: PartEntry) -> list[str]:
        return list(verify(bank, replace(load_current(bank), index=parts), deep=True))

    def test_a_part_of_its_shards_is_sound(self, indexed):
        assert self.damage(indexed, *load_current(indexed).index) == []

    def test_a_part_of_other_shards_is_named(self, indexed):
        (part,) = load_current(indexed).index
        damage = self.damage(indexed, replace(part, shards=part.shards[::-1]))
        assert damage
        assert all(part.id in line for line in damage)

    def test_a_part_of_too_few_segments_is_named(self, indexed):
        (part,) = load_current(indexed).index
        fewer, one = self.damage(indexed, replace(part, shards=part.shards[:1]))
        assert f"shard {part.shards[1]}: expected an index part over it, found none" == fewer
        assert f"found {part.rows:,}" in one

    def test_a_part_that_holds_a_segment_twice_and_one_never_is_named(self, indexed, tmp_path):
        bank = Path(shutil.copytree(indexed, tmp_path / "bank"))
        (part,) = load_current(bank).index
        path = part_folder(bank) / part.id / LEAVES
        leaves = Leaves.map(path)
        twice = leaves.row.copy()
        twice[:2] = twice[leaves.shard == leaves.shard[0]][0]
        path.write_bytes(replace(leaves, row=twice).to_bytes())
        damage = self.damage(bank, replace(part, files={**part.files, LEAVES: file_entry(path)}))
        assert damage == [f"{path}: does not hold every segment of its shards once"]

    def test_a_shard_in_two_parts_is_named(self, indexed):
        (part,) = load_current(indexed).index
        damage = self.damage(indexed, part, part)
        assert damage == [f"shard {id}: expected one index part over it, found 2" for id in part.shards]


def test_a_newer_schema_is_refused_in_one_sentence(bank, monkeypatch):
    row = {**load_current(bank).to_json(), "schema": SCHEMA + 1, "something": "new"}
    monkeypatch.setattr(Manifest, "to_json", lambda self: row)
    manifest_path(bank, 1).write_bytes(toy_manifest(1, ()).to_bytes())
    for use in (load_current, Reader, lambda path: list(verify(path))):
        with pytest.raises(SchemaError, match=rf"expected schema {SCHEMA} or older, found schema {SCHEMA + 1}; update"):
            use(bank)


def test_a_folder_without_manifest_and_no_folder_are_no_banks(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotABankError, match="zeuxis rebuild"):
            load_current(path)


def test_only_full_names_count_as_generations(bank):
    for name in ("MANIFEST-000009.json.bak", ".tmp-MANIFEST-000009.json", "MANIFEST-9.json"):
        (bank / name).write_text("{}")
    assert generations(bank) == [1]


class TestGarbage:
    def test_only_what_no_generation_names_is_removed(self, bank):
        old = load_current(bank).shards
        orphan = write_shard(bank, [7])
        publish_shards(bank, 2, [old[1], write_shard(bank, [6])])
        (bank / ".tmp-1-a.json").touch()
        (shard_folder(bank) / ".tmp-1-b" / "blobs").mkdir(parents=True)
        (bank / "notes.txt").touch()
        before = {path.name for path in bank.rglob("*")}
        removed = collect_garbage(bank)
        assert sorted(removed) == sorted([".tmp-1-a.json", ".tmp-1-b", orphan.id])
        assert {path.name for path in bank.iterdir()} == {
            "MANIFEST-000001.json", "MANIFEST-000002.json", "notes.txt", "shards",
        }  # fmt: skip
        assert before >= {path.name for path in bank.rglob("*")}
        assert list(verify(bank, deep=True)) == []
        assert len(Reader(bank, Manifest.from_bytes(manifest_path(bank, 1).read_bytes(), bank)).shards) == 2
        assert collect_garbage(bank) == {}

    def test_no_shard_is_removed_while_an_old_manifest_cannot_be_read(self, bank):
        add_shard(bank, [6])
        manifest_path(bank, 1).write_text("{}")
        orphan = write_shard(bank, [7])
        (shard_folder(bank) / ".tmp-1-b").mkdir()
        assert list(collect_garbage(bank)) == [".tmp-1-b"]
        assert (shard_folder(bank) / orphan.id).is_dir()

    def test_a_bank_without_shards_has_no_garbage(self, tmp_path):
        assert collect_garbage(make_bank(tmp_path / "bank")) == {}
