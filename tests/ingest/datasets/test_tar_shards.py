"""Tar shards: what is a source, what is a reject, and that nothing is extracted, unpickled or lost."""

import gzip
import io
import pickle
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import published_more as published
from published_more import packed, put, sample, special, tar_of

from zeuxis.ingest.datasets.shards import expand, split_of
from zeuxis.ingest.datasets.tarindex import index_tar
from zeuxis.ingest.datasets.tarshards import TarImages, open_tar
from zeuxis.storage.errors import DatasetError, SourceError

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def faults(path: Path, **options: str) -> dict[str, str]:
    """Name to reason of every reject."""
    return {ref.name: ref.fault[0] for ref in open_tar(path, **options).sources() if ref.fault}


def good(path: Path, **options: str) -> list[str]:
    return [ref.name for ref in open_tar(path, **options).sources() if not ref.fault]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return tmp_path / "a.tar"


# what is a source


def test_members_that_share_a_name_up_to_the_first_dot_are_a_source(tmp_path: Path) -> None:
    dataset = open_tar(published.shards(tmp_path))
    refs = dataset.sources()
    assert [ref.name for ref in refs] == [f"train-00000{shard}/00000{number}" for shard in (0, 1) for number in (0, 1)]
    members = sample(101)
    encoded = dataset.read(refs[3])
    assert (encoded.image, encoded.layout, encoded.depth) == (members["jpg"], members["seg.png"], None)
    assert refs[3].image == "train-000001.tar/000001.jpg"
    source = dataset.decode(refs[3], encoded)
    assert source.layout.shape == published.SIZE
    assert not dataset.ignored()


def test_depth_instances_and_other_suffixes_are_told_apart(shard: Path) -> None:
    depth = published.encoded(published.things_and_stuff())
    put(shard, tar_of({"a/b.c": {}, "a/b": sample(1, depth_png=depth, inst_png=depth, foo=b"?", md5=b"0")}))
    dataset = open_tar(shard)
    (ref,) = dataset.sources()
    assert (ref.name, ref.depth, ref.instances) == ("a/b", "a/b.depth.png", "a/b.inst.png")
    assert dataset.read(ref).instances == depth
    assert [(problem.reason, "1 members .foo" in problem.sentence) for problem in dataset.ignored()] == [
        ("unknown-member", True)
    ]


def test_options_say_which_suffix_is_what(shard: Path) -> None:
    image, labels = sample(1)["jpg"], sample(1)["seg.png"]
    put(shard, tar_of({"a": {"jpg": image, "png": labels}}))
    with pytest.raises(DatasetError, match="labels=SUFFIX"):
        open_tar(shard).sources()
    dataset = open_tar(shard, labels="png")
    (ref,) = dataset.sources()
    assert dataset.read(ref).layout == labels


def test_photographs_alone_are_taken_where_that_is_said(shard: Path) -> None:
    put(shard, tar_of({"a": {"jpg": sample(1)["jpg"], "cls": b"3"}}))
    with pytest.raises(DatasetError, match="labels=none"):
        open_tar(shard).sources()
    dataset = open_tar(shard, labels="none")
    assert isinstance(dataset, TarImages)
    assert not dataset.labelled
    (ref,) = dataset.sources()
    assert dataset.read(ref).layout is None
    assert dataset.spec == f"tar:{shard}?labels=none"


def test_json_members_give_splits_and_groups(shard: Path) -> None:
    samples = {
        "a": sample(1, json=b'{"split": "validation", "group": 7}'),
        "b": sample(2, json=b'["no", "object"]'),
        "c": sample(3, json=b'{"split": "somewhere"}'),
        "d": sample(4, json=b"{not json"),
        "e": sample(5, json=b"[" * 100_000),
    }
    put(shard, tar_of(samples))
    refs = open_tar(shard).sources()
    assert [(ref.split, ref.group) for ref in refs[:2]] == [("val", "7"), ("train", "b")]
    assert faults(shard) == dict.fromkeys("cde", "unreadable-metadata")


@pytest.mark.parametrize(
    ("name", "split"),
    [("x/validation-00001.tar", "val"), ("test/0.tar", "test"), ("training_3.tar", "train"), ("0.tar", "train")],
)
def test_splits_come_from_the_names_of_shards(name: str, split: str) -> None:
    assert split_of(name) == split


def test_a_class_file_beside_the_shards_is_read(tmp_path: Path) -> None:
    published.shards(tmp_path)
    put(tmp_path / "classes.csv", "id,name\n0,road\n1,tree\n2,sky\n3,car\n4,bus\n5,pole\n6,sign\n")
    dataset = open_tar(tmp_path)
    assert [entry.name for entry in dataset.decoding.classes][:2] == ["road", "tree"]
    assert not dataset.ignored()


# which shards


def test_braces_name_every_shard_and_each_must_be_there(tmp_path: Path) -> None:
    published.shards(tmp_path, count=3)
    pattern = f"{tmp_path}/train-{{000000..000002}}.tar"
    dataset = open_tar(pattern)
    assert dataset.spec == f"tar:{pattern}"
    assert len(dataset.sources()) == 6
    with pytest.raises(DatasetError, match=r"no train-000003\.tar, train-000004\.tar"):
        open_tar(f"{tmp_path}/train-{{000000..000004}}.tar").sources()
    assert len(open_tar(f"{tmp_path}/train-*1.tar").sources()) == 2
    with pytest.raises(DatasetError, match="nothing that"):
        open_tar(f"{tmp_path}/val-*.tar").sources()


def test_braces_count_and_list() -> None:
    assert expand("{a,b}-{08..10}.tar") == [f"{x}-{n}.tar" for x in "ab" for n in ("08", "09", "10")]
    for bad in ("{a}", "{5..1}", "{0..99999999}", "{a,b", "a}"):
        with pytest.raises(DatasetError):
            expand(bad)


def test_other_files_among_the_shards_are_named(tmp_path: Path) -> None:
    published.shards(tmp_path)
    put(tmp_path / "notes.doc", "?")
    put(tmp_path / "README.md", "?")
    assert [problem.file for problem in open_tar(tmp_path).ignored()] == ["notes.doc"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="an empty folder"):
        open_tar(tmp_path / "empty").sources()


@pytest.mark.parametrize("spec", ["pipe:cat /etc/passwd", "pipe:cat x{1..3}", "pipe:curl -s http://x/{0..3}.tar"])
def test_programs_are_never_run(spec: str) -> None:
    with pytest.raises(DatasetError, match="a program to run"):
        open_tar(spec)


# names are keys


@pytest.mark.parametrize("format", FORMATS)
def test_unsafe_and_unreadable_members_are_rejects_of_their_own(shard: Path, tmp_path: Path, format: int) -> None:
    jpg = sample(1)["jpg"]
    members = [
        *[(f"ok.{suffix}", data) for suffix, data in sample(1).items()],
        ("../up.jpg", jpg),
        ("a/../../up.jpg", jpg),
        ("/etc/cron.d/x.jpg", jpg),
        ("C:\\x.jpg", jpg),
        ("new\nline.jpg", jpg),
        ("esc\x1b[31m.jpg", jpg),
        special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard.jpg", tarfile.LNKTYPE, "ok.jpg"),
        special("null.jpg", tarfile.CHRTYPE),
        special("disk.jpg", tarfile.BLKTYPE),
        special("fifo.jpg", tarfile.FIFOTYPE),
        special("folder", tarfile.DIRTYPE),
    ]
    put(shard, packed(members, format))
    found = {name.rpartition("@")[0]: reason for name, reason in faults(shard).items()}
    unsafe = ["../up.jpg", "a/../../up.jpg", "/etc/cron.d/x.jpg", "C:\\x.jpg"]
    special_ones = ["link.jpg", "hard.jpg", "null.jpg", "disk.jpg", "fifo.jpg"]
    unreadable = ["new\\nline.jpg", "esc\\x1b[31m.jpg"]
    assert found == (
        dict.fromkeys(unsafe, "unsafe-name")
        | dict.fromkeys(special_ones, "unsafe-member")
        | dict.fromkeys(unreadable, "unreadable-name")
    )
    assert good(shard) == ["ok"]
    assert list(tmp_path.iterdir()) == [shard]
    said = [ref.fault[1] for ref in open_tar(shard).sources() if ref.fault]
    assert all(each.startswith(f"{shard}/") for each in said), "members are of the shard, not of this machine"


def test_names_that_are_no_utf8_are_rejects_shown_as_escapes(shard: Path) -> None:
    data = tar_of({"Xab": sample(1), "c": sample(2)})
    put(shard, b"".join(_renamed(data[at : at + 512]) for at in range(0, len(data), 512)))
    assert [name.partition("@")[0] for name in faults(shard)] == [f"\\xffab.{suffix}" for suffix in sorted(sample(1))]
    assert set(faults(shard).values()) == {"unreadable-name"}
    assert good(shard) == ["c"]


def _renamed(block: bytes) -> bytes:
    """A header with `Xab` in its name as one with a byte that is no UTF-8."""
    if not block.startswith(b"Xab."):
        return block
    block = bytearray(block.replace(b"Xab.", b"\xffab.", 1))
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 256)
    return bytes(block)


def test_duplicate_members_are_a_reject(shard: Path) -> None:
    once = [(f"a.{suffix}", data) for suffix, data in sample(1).items()]
    put(shard, packed([*once, ("a.jpg", sample(2)["jpg"]), *((f"b.{s}", d) for s, d in sample(3).items())]))
    assert faults(shard) == {"a": "duplicate-name"}
    assert good(shard) == ["b"]


def test_sources_without_a_partner_are_rejects(shard: Path) -> None:
    put(shard, tar_of({"a": {"jpg": sample(1)["jpg"]}, "b": {"seg.png": sample(1)["seg.png"]}, "c": sample(3)}))
    assert faults(shard) == {"a": "missing-label", "b": "missing-image"}


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("it was unpickled",)


def test_pickled_members_are_left_out_and_never_loaded(shard: Path) -> None:
    trap = pickle.dumps(Trap())
    more = dict.fromkeys(("pyd", "pkl", "pickle", "pth", "pt", "npz", "depth_pkl"), trap)
    put(shard, tar_of({"a": sample(1, **more)}))
    dataset = open_tar(shard)
    (ref,) = dataset.sources()
    dataset.decode(ref, dataset.read(ref))
    assert {problem.reason for problem in dataset.ignored()} == {"pickled-member"}
    assert len(dataset.ignored()) == len(more)


def test_a_depth_array_of_objects_is_a_reject(shard: Path) -> None:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.array([[Trap()]], object), allow_pickle=True)
    put(shard, tar_of({"a": sample(1, depth_npy=buffer.getvalue())}))
    dataset = open_tar(shard, metres_per_unit="1")
    (ref,) = dataset.sources()
    with pytest.raises(SourceError) as caught:
        dataset.decode(ref, dataset.read(ref))
    assert caught.value.reason == "unreadable-depth"


def test_the_unit_of_depth_arrays_is_never_guessed(shard: Path) -> None:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.full(published.SIZE, 2.5, np.float32))
    put(shard, tar_of({"a": sample(1, depth_npy=buffer.getvalue()), "b": sample(2)}))
    assert faults(shard) == {"a": "unknown-unit"}
    dataset = open_tar(shard, metres_per_unit="1")
    ref = dataset.sources()[0]
    depth = dataset.decode(ref, dataset.read(ref)).depth
    assert depth is not None
    assert (depth == 2.5).all()


# damage


def test_of_a_tar_cut_anywhere_what_is_whole_is_read_and_the_rest_is_a_reject(shard: Path) -> None:
    data = tar_of({f"{number:03d}": sample(number) for number in range(3)})
    whole = index_tar(io.BytesIO(data), len(data))[0]
    for cut in [*range(1, len(data), 389), *range(512, len(data), 512)]:
        members, damage = index_tar(io.BytesIO(data[:cut]), cut)
        ends = [member.offset + member.size for member in whole if member.offset + member.size <= cut]
        assert members == whole[: len(ends)]
        behind = -(-(whole[-1].offset + whole[-1].size) // 512) * 512
        assert (damage is None) == (cut >= behind + 512), "whole is what ends with an empty block"
    put(shard, data[: whole[-1].offset + 5])
    assert faults(shard) == {f"@{whole[-1].offset - 512}": "damaged-shard"}
    assert good(shard) == ["000", "001", "002"]


def test_a_flipped_bit_in_a_header_ends_the_shard_there_and_says_so(shard: Path) -> None:
    data = bytearray(tar_of({f"{number:03d}": sample(number) for number in range(3)}))
    members, _ = index_tar(io.BytesIO(data), len(data))
    for member in members:
        for byte in (0, 101, 130, 150, 156, 260):
            broken = bytearray(data)
            broken[member.offset - 512 + byte] ^= 4
            found, damage = index_tar(io.BytesIO(broken), len(broken))
            assert found == [m for m in members if m.offset < member.offset]
            assert damage is not None
            assert damage.offset == member.offset - 512


def test_archives_behind_one_another_are_noticed(shard: Path) -> None:
    put(shard, tar_of({"a": sample(1)}) + tar_of({"b": sample(2)}))
    (reason,) = faults(shard).values()
    assert reason == "damaged-shard"
    assert good(shard) == ["a"]


@pytest.mark.parametrize("format", FORMATS)
def test_long_names_and_unicode_are_read_as_tarfile_reads_them(format: int) -> None:
    names = ["x" * 99 + ".jpg", "d" * 90 + "/" + "e" * 60 + ".jpg", "héé/ß.jpg", "./a.jpg"]
    if format != tarfile.USTAR_FORMAT:
        names.append("long/" * 60 + "é.jpg")
    names = [name for name in names if format != tarfile.USTAR_FORMAT or len(name) <= 100 or "/" in name]
    data = packed([(name, name.encode()) for name in names], format)
    members, damage = index_tar(io.BytesIO(data), len(data))
    assert damage is None
    assert [member.name for member in members] == [name.removeprefix("./") for name in names]
    assert [data[m.offset : m.offset + m.size].decode() for m in members] == names


def test_a_header_that_promises_gigabytes_is_damage_and_costs_nothing() -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 1 << 40
    huge = info.tobuf(tarfile.GNU_FORMAT)
    extended = bytearray(huge)
    extended[156:157] = b"x"
    extended[148:156] = b"%06o\0 " % (sum(extended[:148]) + sum(extended[156:]) + 256)
    for data in (huge, bytes(extended)):
        file = Frugal(data)
        members, damage = index_tar(file, 1 << 39)
        assert not members
        assert damage is not None


class Frugal(io.BytesIO):
    """A file of which nobody asks for much at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 20
        return super().read(size)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_compressed_shards_are_rejects_and_never_unpacked(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, gzip.compress(tar_of({"a": sample(1)})))
    with pytest.raises(DatasetError, match="gzip"):
        open_tar(tmp_path).sources()
    put(tmp_path / "b.tar", tar_of({"b": sample(2)}))
    assert list(faults(tmp_path).values()) == ["compressed-shard"]
    assert good(tmp_path) == ["b/b"]


def test_an_empty_or_foreign_file_is_a_reject(tmp_path: Path) -> None:
    put(tmp_path / "b.tar", tar_of({"b": sample(2)}))
    put(tmp_path / "c.tar", b"no tar at all" * 100)
    put(tmp_path / "e.tar", b"")
    assert faults(tmp_path) == {"c/@0": "damaged-shard", "e/@0": "damaged-shard"}
    put(tmp_path / "only/d.tar", b"")
    with pytest.raises(DatasetError, match="it is empty"):
        open_tar(tmp_path / "only").sources()


# reading


def test_a_worker_reads_by_offset_without_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_tar(published.shards(tmp_path))
    refs = dataset.sources()
    sent = pickle.dumps(dataset)
    assert len(sent) < 20_000
    monkeypatch.setattr("zeuxis.ingest.datasets.tarshards.index_tar", lambda *_: pytest.fail("it was listed again"))
    worker = pickle.loads(sent)
    for ref in pickle.loads(pickle.dumps(refs)):
        assert worker.read(ref) == dataset.read(ref)


def test_a_shard_that_changes_after_it_was_listed_is_a_reject(tmp_path: Path) -> None:
    dataset = open_tar(published.shards(tmp_path, count=1))
    (ref, _) = dataset.sources()
    assert dataset.stamp(ref) == ref.stamp
    put(tmp_path / "train-000000.tar", tar_of({"0": sample(9)}))
    with pytest.raises(SourceError) as caught:
        dataset.read(ref)
    assert caught.value.reason == "changed"
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(SourceError) as caught:
        dataset.read(ref)
    assert caught.value.reason == "unreadable-file"


def test_options_that_are_none_are_refused(tmp_path: Path) -> None:
    published.shards(tmp_path)
    with pytest.raises(DatasetError, match="metres_per_unit"):
        open_tar(tmp_path, metres_per_unit="far")
    with pytest.raises(DatasetError, match="depht"):
        open_tar(tmp_path, depht="png")
