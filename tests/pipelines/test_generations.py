"""Generations are listed as they are, a rollback is a new one that equals an old one, what was forgotten stays so."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "storage"))

from toybank import make_bank, toy_manifest, write_shard

from zeuxis.pipelines.generations import Generation, collect, generations, rollback
from zeuxis.storage import files
from zeuxis.storage.errors import BankBusyError, DamagedBankError, InputError, NotABankError
from zeuxis.storage.manifest import (
    Manifest,
    bytes_of,
    load_current,
    load_generation,
    manifest_path,
    publish,
    report_path,
    verify,
)
from zeuxis.storage.manifest import generations as numbers_of
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.stamps import write_stamps

FORGOTTEN_ID = "ef" * 16


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1: sources 0 and 1 and a reject; 2: one more shard, source 1 and the reject masked; 3: that shard alone."""
    bank = make_bank(tmp_path_factory.mktemp("three") / "bank", [0, 1], rejects=["bad"])
    (first,) = load_current(bank).shards
    second = write_shard(bank, [2])
    masked = replace(first, masked=("toy/001",), masked_rejects=("toy/bad",))
    stamps = write_stamps(bank, {"toy/002": "new"})
    put(bank, replace(toy_manifest(2, [masked, second]), forgotten={"toy/007": "cd" * 16}, stamps=stamps))
    put(bank, toy_manifest(3, [second]))
    report_path(bank, 3).parent.mkdir()
    report_path(bank, 3).write_text("how it went")
    return bank


def put(bank: Path, manifest: Manifest) -> None:
    publish(bank, replace(manifest, content=content_of(Reader(bank, manifest))))


@pytest.fixture
def bank(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "bank"))


def sources_of(bank: Path) -> list[str]:
    return sorted(Reader(bank).table("sources")["source"].to_pylist())


class TestListing:
    def test_every_generation_is_counted_as_its_reader_counts_it(self, bank):
        rows = generations(bank).rows
        assert [(row.generation, row.current) for row in rows] == [(1, False), (2, False), (3, True)]
        for row in rows:
            reader = Reader(bank, load_generation(bank, row.generation))
            counts = [reader.table(name).num_rows for name in ("sources", "segments", "rejects")]
            assert [row.sources, row.segments, row.rejects] == counts
            assert (row.content, row.shards, row.time) == (reader.manifest.content, len(reader.shards), "now")
        assert rows[1].segments < rows[0].segments + rows[2].segments, "a masked source was counted"

    def test_bytes_are_those_on_disk_and_own_ones_those_that_go(self, bank):
        rows = generations(bank).rows
        first, second = (bytes_of(bank / "shards" / e.id) for e in load_generation(bank, 2).shards)
        stamps = bytes_of(bank / "stamps")
        report = bytes_of(report_path(bank, 3))
        own = [bytes_of(manifest_path(bank, number)) for number in (1, 2, 3)]
        assert [row.bytes for row in rows] == [
            own[0] + first,
            own[1] + first + second + stamps,
            own[2] + second + report,
        ]
        assert [row.own for row in rows] == [own[0], own[1] + stamps, own[2] + report]
        assert collect(bank, 2).freed == rows[0].own
        assert collect(bank, 1).freed == first + rows[1].own

    def test_pinned_is_what_somebody_reads_and_not_the_listing(self, bank):
        assert [row.pinned for row in generations(bank).rows] == [False] * 3
        reader = Reader(bank, load_generation(bank, 2))
        assert [row.pinned for row in generations(bank).rows] == [False, True, False]
        reader.release()

    def test_a_damaged_generation_has_its_own_line(self, bank):
        manifest_path(bank, 2).write_text("{}")
        shutil.rmtree(bank / "stamps")
        one, two, three = generations(bank).rows
        assert (one.damage, three.damage) == ("", "")
        assert "MANIFEST-000002.json" in two.damage
        assert (two.sources, two.bytes) == (0, 0)

    def test_a_generation_that_goes_meanwhile_is_left_out(self, bank, monkeypatch):
        real = files.is_held

        def held(path: Path) -> bool:
            if path == manifest_path(bank, 2):
                path.unlink()
            return real(path)

        monkeypatch.setattr(files, "is_held", held)
        assert [row.generation for row in generations(bank).rows] == [1, 3]

    def test_table_and_frame_say_the_same(self, bank):
        from rich.console import Console

        rollback(bank, 2)
        found = generations(bank)
        frame = found.to_frame()
        assert list(frame.columns) == list(Generation.__dataclass_fields__)
        assert frame["generation"].tolist() == [1, 2, 3, 4]
        console = Console(width=250, record=True, file=StringIO())
        console.print(found.render())
        lines = console.export_text().splitlines()
        assert len(lines) == 5
        assert "current, rolled back to 2" in lines[4]
        for line, row in zip(lines[1:], found.rows, strict=True):
            assert f" {row.segments:,} " in line
            assert row.content[:12] in line

    def test_a_folder_that_is_no_bank_is_one_sentence_and_stays_as_it_is(self, tmp_path):
        for use in (generations, rollback, collect):
            with pytest.raises(NotABankError, match="zeuxis rebuild"):
                use(tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestRollback:
    def test_the_one_before_comes_back_as_a_new_one(self, bank):
        done = rollback(bank)
        assert (done.generation, done.target) == (4, 2)
        old, new = load_generation(bank, 2), load_current(bank)
        assert new.made == {"time": new.made["time"], "note": "rolled back to 2"}
        assert replace(new, generation=2, made=old.made) == old
        assert numbers_of(bank) == [1, 2, 3, 4]
        assert sources_of(bank) == ["toy/000", "toy/002"]
        assert list(verify(bank, deep=True)) == []

    def test_it_can_be_taken_back(self, bank):
        content = load_current(bank).content
        rollback(bank)
        rollback(bank)
        assert load_current(bank).generation == 5
        assert load_current(bank).content == content

    def test_any_generation_can_be_named(self, bank):
        assert rollback(bank, 1).generation == 4
        assert sources_of(bank) == ["toy/000", "toy/001"]

    @pytest.mark.parametrize(
        ("number", "said"),
        [(9, "generation 9: expected one of 1, 2, 3, found none such"),
         (3, "generation 3: expected one of 1, 2, found the current one"),
         (0, "generation 0: expected one of 1, 2, 3")],
    )  # fmt: skip
    def test_a_number_that_cannot_be_is_one_sentence(self, bank, number, said):
        with pytest.raises(InputError, match=said):
            rollback(bank, number)
        assert numbers_of(bank) == [1, 2, 3]

    def test_a_lone_generation_has_none_before(self, bank):
        collect(bank, 1)
        with pytest.raises(InputError, match="generation 3: expected an older one to go back to, found the oldest"):
            rollback(bank)

    @pytest.mark.parametrize("kind", ["segments.parquet", "data.mdb", "stamps"])
    def test_a_damaged_target_is_refused(self, bank, kind):
        paths = [path for path in load_generation(bank, 2).pieces(bank) if kind in str(path)]
        path = paths[0] if paths else next((bank / "shards" / load_generation(bank, 1).shards[0].id).rglob(kind))
        os.truncate(path, 40)
        with pytest.raises(DamagedBankError, match=rf"generation 2 is damaged: .*{path.name}: expected .* bytes"):
            rollback(bank, 2)
        assert numbers_of(bank) == [1, 2, 3]

    def test_one_writer_at_a_time(self, bank):
        with files.writer_lock(bank):
            for use in (rollback, collect):
                with pytest.raises(BankBusyError):
                    use(bank)


class TestForgotten:
    def forget(self, bank: Path, name: str, source_id: str) -> None:
        """As the current generation would have it after `name` was forgotten."""
        put(bank, replace(load_current(bank), generation=4, forgotten={name: source_id}))

    def test_what_either_has_forgotten_stays_forgotten(self, bank):
        self.forget(bank, "toy/099", FORGOTTEN_ID)
        rollback(bank, 2)
        assert load_current(bank).forgotten == {"toy/007": "cd" * 16, "toy/099": FORGOTTEN_ID}

    @pytest.mark.parametrize("number", [1, 2])
    def test_a_generation_that_holds_it_by_name_is_refused_even_where_it_is_masked(self, bank, number):
        self.forget(bank, "toy/001", FORGOTTEN_ID)
        with pytest.raises(InputError, match=f"generation {number}: holds toy/001, which was forgotten"):
            rollback(bank, number)
        assert rollback(bank, 3).generation == 5

    def test_a_generation_that_holds_its_bytes_under_another_name_is_refused(self, bank):
        row = Reader(bank, load_generation(bank, 1)).table("sources", {"source": "toy/000"}).to_pylist()[0]
        self.forget(bank, "other/name", row["source_id"])
        with pytest.raises(InputError, match="generation 1: holds toy/000, which was forgotten"):
            rollback(bank, 1)


def test_collecting_says_what_went_and_what_is_in_use(bank):
    reader = Reader(bank, load_generation(bank, 1))
    done = collect(bank, 1)
    assert (done.removed, done.held) == ((2,), (1,))
    assert sources_of(bank) == ["toy/002"]
    assert sorted(reader.table("sources")["source"].to_pylist()) == ["toy/000", "toy/001"]
    with pytest.raises(InputError, match="keep: expected at least 1"):
        collect(bank, 0)
