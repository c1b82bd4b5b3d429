"""What is forgotten is in no table, blob, index, report or byte of any generation, and a killed run is repeated."""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import zeuxis

sys.path.append(str(Path(__file__).parents[1] / "storage"))

from toybank import FRAME, make_bank, toy_bundle, toy_manifest, write_shard

from zeuxis.pipelines.forget import forget
from zeuxis.pipelines.indexing import index_shards
from zeuxis.pipelines.trace_patterns import Patterns, Traces
from zeuxis.pipelines.traces import search_bank, trace
from zeuxis.storage import files
from zeuxis.storage.errors import BankBusyError, DamagedBankError, InputError, NotABankError
from zeuxis.storage.manifest import (
    generations,
    load_current,
    load_generation,
    manifest_path,
    publish,
    report_path,
    shard_folder,
    verify,
)
from zeuxis.storage.parts import part_folder
from zeuxis.storage.reader import Reader, content_of
from zeuxis.storage.records import RejectRecord
from zeuxis.storage.shard import blob_key
from zeuxis.storage.shard_writer import ShardWriter
from zeuxis.storage.stamps import read_stamps, write_stamps

NAMES = [f"toy/{seed:03d}" for seed in range(5)]
GONE = NAMES[1]


def publish_next(bank: Path, shards: Any, **fields: Any) -> None:
    """One more generation of these shards, indexed."""
    number = max(generations(bank), default=0) + 1
    current = load_current(bank).index if number > 1 else ()
    manifest = replace(toy_manifest(number, shards), **fields)
    index = index_shards(bank, FRAME, manifest.shards, current)
    publish(bank, replace(manifest, index=index, content=content_of(Reader(bank, manifest))))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources 0..2 and a reject in one shard, 3 and 4 in another, each in its part; three generations, reports, stamps.

    The first generation has one shard; the second has both; the third masks source 2 and knows newer stamps.
    """
    bank = tmp_path_factory.mktemp("made") / "bank"
    files.make_folder(shard_folder(bank))
    first = write_shard(bank, [0, 1, 2], ["bad"])
    publish_next(bank, [first])
    second = write_shard(bank, [3, 4])
    publish_next(bank, [first, second])
    stamps = write_stamps(bank, {GONE: "touched", NAMES[0]: "touched too", NAMES[3]: "and this"})
    publish_next(bank, [replace(first, masked=(NAMES[2],)), second], stamps=stamps)
    files.make_folder(report_path(bank, 1).parent)
    for number in (1, 2, 3):
        report_path(bank, number).write_text(f"<html>generation {number}</html>")
    return bank


@pytest.fixture
def bank(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bank"))


def names_in(bank: Path) -> list[str]:
    return sorted(Reader(bank).table("sources", columns=["source"])["source"].to_pylist())


def everything_in(bank: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(bank.rglob("*")) if path.is_file())


def test_a_source_goes_with_all_that_was_derived_from_it(bank: Path) -> None:
    segments = toy_bundle(1).segments
    wanted = [row for row in Reader(bank).table("segments").to_pylist() if row["source"] != GONE]
    report = forget(GONE, bank)
    assert report.proved
    assert (report.found, report.left, report.pinned) == ((), (), ())
    assert (report.published, report.generation, report.sources) == (True, 4, (GONE,))
    assert names_in(bank) == [NAMES[0], NAMES[3], NAMES[4]]
    left = Reader(bank).table("segments").to_pylist()
    assert sorted(left, key=str) == sorted(wanted, key=str)
    assert report.rows["sources"] == 1
    assert report.rows["segments"] == len(segments)
    assert report.rows["orderings"] == len(toy_bundle(1).orderings)
    assert report.blobs == len(toy_bundle(1).blobs)
    assert report.generations == (1, 2, 3)
    assert generations(bank) == [4]
    assert list(verify(bank, deep=True)) == []


def test_no_byte_of_it_is_left_in_any_file(bank: Path) -> None:
    bundle, before = toy_bundle(1), everything_in(bank)
    report = forget(GONE, bank)
    manifest = json.loads(manifest_path(bank, 4).read_bytes())
    assert manifest.pop("forgotten") == {GONE: bundle.source.source_id}
    manifest_path(bank, 4).unlink()
    after = everything_in(bank) + json.dumps(manifest).encode()
    values = [value for value in bundle.blobs.values() if len(value) > 200]
    keys = [bytes.fromhex(bundle.source.source_id), *(row.segment_id.to_bytes(8, "big") for row in bundle.segments)]
    assert all(each in before for each in [*values[:3], *keys])
    assert not any(each in after for each in [*values, *keys, GONE.encode()])
    assert report.files == sum(path.is_file() for path in bank.rglob("*")) + 1
    assert report.bytes > sum(map(len, values))


def test_untouched_shards_and_parts_stay_as_they_are(bank: Path) -> None:
    before = load_current(bank)
    forget(GONE, bank)
    after = load_current(bank)
    assert after.shards[1] == before.shards[1]
    assert after.shards[0].id != before.shards[0].id
    assert after.shards[0].rows["sources"] == 1, "what was masked goes too"
    assert [set(part.shards) for part in after.index] == [{entry.id for entry in after.shards}]
    assert after.content == content_of(Reader(bank))
    assert (after.settings, after.classes, after.datasets) == (before.settings, before.classes, before.datasets)


def test_answers_of_the_index_are_those_of_a_bank_that_never_had_it(bank: Path, tmp_path: Path) -> None:
    forget([GONE, NAMES[2]], bank)
    never = make_bank(tmp_path / "never", [0], [3, 4], rejects=["bad"])
    source, where = toy_bundle(4), zeuxis.open(bank)
    layout = Reader(bank).layout(source.source.source)
    hits = [[(hit.segment_id, hit.score) for hit in each.hits] for each in where.retrieve(layout, k=50)]
    assert hits == [
        [(hit.segment_id, hit.score) for hit in each.hits] for each in zeuxis.open(never).retrieve(layout, k=50)
    ]
    assert load_current(bank).content == load_current(never).content


def test_newer_stamps_of_others_move_into_the_new_shard_and_those_of_the_rest_stay(bank: Path) -> None:
    forget(GONE, bank)
    current = load_current(bank)
    assert read_stamps(bank, current.stamps) == {NAMES[3]: "and this"}
    rows = Reader(bank).table("sources", columns=["source", "stamp"]).to_pylist()
    assert {row["source"]: row["stamp"] for row in rows}[NAMES[0]] == "touched too"


def test_rejects_and_masked_sources_and_those_of_older_generations_can_be_forgotten(bank: Path) -> None:
    report = forget(["toy/bad", NAMES[2]], bank)
    assert report.proved
    assert (report.rows["rejects"], report.rows["sources"]) == (1, 1)
    assert Reader(bank).table("rejects").num_rows == 0
    assert load_current(bank).forgotten == {"toy/bad": "", NAMES[2]: toy_bundle(2).source.source_id}
    current = load_current(bank)
    publish_next(bank, current.shards[1:], forgotten=current.forgotten)
    report = forget(NAMES[0], bank)
    assert (report.proved, report.generations) == (True, (4,))
    assert load_current(bank).forgotten.keys() == {"toy/bad", NAMES[2], NAMES[0]}


def test_a_shard_of_which_nothing_is_left_is_dropped(bank: Path) -> None:
    report = forget(NAMES[3:], bank)
    assert report.proved
    assert names_in(bank) == NAMES[:2]
    assert len(load_current(bank).shards) == 1
    assert [part.shards for part in load_current(bank).index] == [(load_current(bank).shards[0].id,)]


def test_a_shard_of_which_only_masked_sources_are_left_is_dropped_though_they_were_live_once(bank: Path) -> None:
    assert forget([*NAMES[:2], "toy/bad"], bank).proved
    assert names_in(bank) == NAMES[3:]
    assert [entry.rows["sources"] for entry in load_current(bank).shards] == [2]


def test_all_of_a_bank_can_be_forgotten(bank: Path) -> None:
    assert forget([*NAMES, "toy/bad"], bank).proved
    assert (names_in(bank), load_current(bank).shards) == ([], ())
    assert os.listdir(shard_folder(bank)) == os.listdir(part_folder(bank)) == []


def test_an_older_generation_without_it_stays(bank: Path) -> None:
    report = forget(NAMES[4], bank)
    assert (report.proved, report.generations, generations(bank)) == (True, (2, 3), [1, 4])
    assert report_path(bank, 1).exists()
    assert not report_path(bank, 2).exists()


def test_the_same_bytes_under_another_name_go_too(bank: Path) -> None:
    """As a masked row, and as a reject that says of which source it is a duplicate."""
    twin = toy_bundle(3)
    source = replace(twin.source, source="toy/twin")
    named = [replace(row, source="toy/twin") for row in twin.segments]
    said = "toy/twin: has the same bytes, image, label map and depth, as toy/003; remove one of the two"
    with ShardWriter(shard_folder(bank), "toy settings", FRAME) as writer:
        writer.add(replace(twin, source=source, segments=named, orderings=[]))
        writer.add(toy_bundle(6))
        writer.reject(RejectRecord("toy/old", "toy", "i", "l", "duplicate", said.replace("twin", "old"), None, "s"))
        writer.reject(RejectRecord("toy/twin", "toy", "i", "l", "duplicate", said, twin.source.source_id, "s"))
        writer.reject(RejectRecord("toy/other", "toy", "i", "l", "duplicate", said.replace("003", "0031"), None, "s"))
        writer.reject(RejectRecord("toy/wide", "toy", "i", "l", "duplicate", said.replace("003", "003 b"), None, "s"))
        entry = writer.publish()
    current = load_current(bank)
    publish_next(bank, [*current.shards, replace(entry, masked=("toy/twin",))], stamps=current.stamps)
    report = forget(NAMES[3], bank)
    assert report.proved, report.found
    assert Reader(bank).table("rejects", columns=["source"])["source"].to_pylist() == [
        "toy/bad",
        "toy/other",
        "toy/wide",
    ]
    assert "toy/006" in names_in(bank)
    assert report.rows["sources"] == report.rows["rejects"] == 2


def test_what_is_forgotten_already_is_no_error_and_publishes_nothing(bank: Path) -> None:
    forget(GONE, bank)
    report = forget([GONE, GONE], bank)
    assert (report.proved, report.published, report.generation, report.sources) == (True, False, 4, (GONE,))
    assert set(report.rows.values()) == {0}
    report = forget([GONE, NAMES[0]], bank)
    assert (report.published, report.generation) == (True, 5)
    assert load_current(bank).forgotten.keys() == {GONE, NAMES[0]}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy/01", "did you mean toy/001"),
        ("001", "did you mean toy/001?"),
        ("zzz", "names them all"),
        ("", "expected names of sources"),
    ],
)
def test_an_unknown_name_is_refused_in_one_sentence_that_says_the_closest_ones(
    bank: Path, name: str, said: str
) -> None:
    before = everything_in(bank)
    with pytest.raises(InputError) as caught:
        forget([GONE, name] if name else "", bank)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert generations(bank) == [1, 2, 3]
    (bank / "WRITER.lock").unlink(missing_ok=True)
    assert everything_in(bank) == before


def test_names_come_from_a_file_too(bank: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{GONE}\n\n{NAMES[3]}\n")
    assert forget([f"@{tmp_path / 'list'}", NAMES[3]], bank).sources == (GONE, NAMES[3])
    with pytest.raises(InputError, match="cannot be read"):
        forget(f"@{tmp_path / 'none'}", bank)


def test_no_bank_and_a_bank_that_is_written_are_refused(bank: Path, tmp_path: Path) -> None:
    with pytest.raises(NotABankError):
        forget(GONE, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with files.writer_lock(bank), pytest.raises(BankBusyError):
        forget(GONE, bank)


def test_a_pinned_generation_is_told_and_goes_with_the_next_run(bank: Path) -> None:
    reader = Reader(bank, load_generation(bank, 2))
    report = forget(GONE, bank)
    assert not report.proved
    assert (report.pinned, report.generations, generations(bank)) == ((2,), (1, 3), [2, 4])
    assert report.found == ()
    assert any("sources.parquet" in line and GONE in line for line in report.left)
    assert GONE in reader.table("sources", columns=["source"])["source"].to_pylist(), "its reader goes on"
    assert not report_path(bank, 2).exists()
    reader.release()
    report = forget(GONE, bank)
    assert (report.proved, report.published, report.generations, generations(bank)) == (True, False, (2,), [4])


def test_reports_that_show_it_go_whatever_generation_they_are_of(bank: Path) -> None:
    current = load_current(bank)
    publish_next(bank, current.shards[1:])
    for number in (1, 2, 3):
        manifest_path(bank, number).unlink()
    report_path(bank, 4).write_text(f"vanished: {html.escape(GONE)}")
    assert trace(bank, current.shards[1:], [GONE])[1] == {}
    publish(bank, replace(load_current(bank), generation=5, forgotten={GONE: toy_bundle(1).source.source_id}))
    report = forget(GONE, bank)
    assert (report.reports, report.proved) == (1, True)
    assert not report_path(bank, 4).exists()


def test_a_damaged_shard_is_named_and_nothing_is_published(bank: Path) -> None:
    """Nobody can tell what is in it."""
    entry = load_current(bank).shards[1]
    path = shard_folder(bank) / entry.id / "sources.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedBankError, match=r"sources\.parquet"):
        forget(GONE, bank)
    assert generations(bank) == [1, 2, 3]


def test_older_generations_that_cannot_be_read_go_since_they_may_hold_it(bank: Path) -> None:
    publish_next(bank, load_current(bank).shards[1:])
    first = load_generation(bank, 1).shards[0]
    (shard_folder(bank) / first.id / "rejects.parquet").write_bytes(b"")
    manifest_path(bank, 2).write_bytes(b"{}")
    report = forget(NAMES[3], bank)
    assert (report.proved, report.generations, generations(bank)) == (True, (1, 2, 3, 4), [5])
    assert len(os.listdir(shard_folder(bank))) == 1


# the search itself


@pytest.fixture
def searched(bank: Path) -> Callable[[], list[str]]:
    """Forgets one source and returns a search for it, to be run after something of it was planted."""
    traces = trace(bank, load_current(bank).shards, [GONE])[0]
    assert forget(GONE, bank).proved

    def search() -> list[str]:
        return [f"{hit.path.relative_to(bank)}: {hit.what}" for hit in search_bank(bank, traces, lambda *_: None).hits]

    assert search() == []
    return search


@pytest.mark.parametrize(
    "form", ["name", "json", "html", "id", "hex id", "segment", "segment, reversed", "segment, hex"]
)
def test_planted_bytes_are_found(bank: Path, searched: Callable[[], list[str]], form: str) -> None:
    source, (segment, *_) = toy_bundle(1).source, toy_bundle(1).segments
    planted = {
        "name": GONE.encode(),
        "json": json.dumps({"a": [GONE]}).encode(),
        "html": html.escape(GONE).encode(),
        "id": bytes.fromhex(source.source_id),
        "hex id": source.source_id.encode(),
        "segment": segment.segment_id.to_bytes(8, "big"),
        "segment, reversed": segment.segment_id.to_bytes(8, "little"),
        "segment, hex": f"{segment.segment_id:016x}".encode(),
    }[form]
    folder = shard_folder(bank) / load_current(bank).shards[0].id
    (folder / "stray.bin").write_bytes(b"\0" * 5 + planted + b"\0")
    (found,) = searched()
    assert "stray.bin: " in found


def test_bytes_are_found_across_the_windows_of_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("zeuxis.pipelines.trace_patterns._WINDOW", 7)
    patterns = Patterns(Traces(frozenset(["toy/001"]), frozenset(["ab" * 16]), frozenset([2**62 + 5])), ())
    for before in range(30):
        for planted in (b"toy/001", b"\xab" * 16, (2**62 + 5).to_bytes(8, "big")):
            (tmp_path / "file").write_bytes(b"t" * before + planted)
            assert len(patterns.in_file(tmp_path / "file")) == 1
            (tmp_path / "file").write_bytes(b"t" * before + planted[:-1])
            assert patterns.in_file(tmp_path / "file") == []
    (tmp_path / "file").write_bytes(b"")
    assert patterns.in_file(tmp_path / "file") == []


def test_a_name_within_a_longer_one_of_the_bank_is_none(tmp_path: Path) -> None:
    patterns = Patterns(Traces(frozenset(["a/1"])), ["a/10", "b/a/1", "a/1"][:2])
    for text, count in (("x a/10 b/a/1", 0), ("a/1", 1), ("a/10 a/1", 1), ("a/11", 1), ("b/a/10 ", 0)):
        (tmp_path / "file").write_text(text)
        assert len(patterns.in_file(tmp_path / "file")) == count, text


def test_a_row_a_value_and_an_index_row_are_found(bank: Path, searched: Callable[[], list[str]]) -> None:
    entry = write_shard(bank, [1])
    current = load_current(bank)
    number = current.generation + 1
    publish(bank, replace(current, generation=number, shards=(*current.shards, entry)))
    found = searched()
    for name in ("sources", "segments", "orderings"):
        assert any(f"{entry.id}/{name}.parquet: {GONE} in column source" in line for line in found)
    key = blob_key("image", toy_bundle(1).source.source_id)
    assert f"shards/{entry.id}/blobs/data.mdb: the value {key.hex()}" in found
    (part,) = current.index
    assert not any("rows for" in line for line in found)
    shards = [replace(each, rows={**each.rows, "segments": each.rows["segments"] - 1}) for each in current.shards]
    publish(bank, replace(current, generation=number + 1, shards=tuple(shards)))
    manifest_path(bank, number).unlink()
    manifest_path(bank, number - 1).unlink()
    assert any(f"index/{part.id}: {part.rows} rows for {part.rows - len(shards)} segments" in x for x in searched())


def test_what_cannot_be_searched_proves_nothing(bank: Path, searched: Callable[[], list[str]]) -> None:
    path = shard_folder(bank) / load_current(bank).shards[0].id / "segments.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert any("segments.parquet" in line for line in searched())


# killed at any moment


MODES = ("kill", "ENOSPC")


def forked(bank: Path, fault: str = "") -> int:
    """Exit code of `forget` in a child: 0, 1 where it raised, or minus the signal it died of."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os.environ["ZEUXIS_FAULT"] = fault
        files.operations = 0
        try:
            assert forget(GONE, bank).proved
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part holds is computed once: the writing is what faults strike."""
    from zeuxis.pipelines import indexing

    for name in ("build_leaves", "candidate_files"):
        made_: dict[Any, Any] = {}
        make = getattr(indexing, name)

        def once(shards: Any, *others: object, make: Any = make, made_: Any = made_) -> Any:
            key = *(shard.segment_id.tobytes() for shard in shards), *others
            if key not in made_:
                made_[key] = make(shards, *others)
            return made_[key]

        monkeypatch.setattr(indexing, name, once)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_killed_anywhere_the_bank_is_whole_and_the_next_run_finishes(
    quick: None, bank: Path, tmp_path: Path, every: int
) -> None:
    clean = Path(shutil.copytree(bank, tmp_path / "clean"))
    files.operations = 0
    assert forget(GONE, clean).proved
    count, wanted = files.operations, load_current(clean)
    killed = 0
    for number in range(1, count + 1, every):
        for mode in MODES if every == 1 else MODES[:1]:
            there = Path(shutil.copytree(bank, tmp_path / "there"))
            died = forked(there, f"{number}:{mode}")
            assert died == -signal.SIGKILL if mode == "kill" else died in (0, 1)
            killed += died == -signal.SIGKILL
            assert list(verify(there)) == [], f"{number}:{mode}"
            assert load_current(there).content in (load_current(bank).content, wanted.content)
            report = forget(GONE, there)
            assert report.proved, (number, mode, report.found)
            assert load_current(there).shards == wanted.shards
            assert generations(there) == [4]
            assert sorted(os.listdir(shard_folder(there))) == sorted(os.listdir(shard_folder(clean)))
            shutil.rmtree(there)
    assert killed == len(range(1, count + 1, every))


def test_the_report_counts_all_that_was_searched(bank: Path) -> None:
    report = forget(GONE, bank)
    assert report.bank == bank
    paths = [path for path in bank.rglob("*") if path.is_file()]
    assert (report.files, report.searched) == (len(paths), sum(path.stat().st_size for path in paths))
