"""Sources at a network's size: the bank's own photographs, layouts and segments, kept within a budget."""

import pickle

import cv2
import numpy as np
import pytest

from zeuxis.pipelines.training.sources import BankSources, held_out_split, set_apart, trained_and_held_out
from zeuxis.storage.errors import BankError, InputError
from zeuxis.storage.layouts import find_components, sample_to_frame
from zeuxis.storage.reader import Reader

SIZE = (32, 64)


@pytest.fixture
def reader(photos, rebuild_bank, tmp_path):
    photos.add("a", "b", "c", "d", "e")
    (photos.root / "sources.csv").write_text("name,split,group\nd,val,\ne,test,\n")
    rebuild_bank(photos.spec)
    return Reader(tmp_path / "bank")


def test_pictures_are_the_banks_at_another_size(reader):
    sources = BankSources(reader, SIZE)
    assert [name.rpartition("/")[2] for name in sources.names] == ["a", "b", "c"]
    for number, name in enumerate(sources.names):
        image, layout, _ = sources[number]
        photograph = reader.photograph(name)
        assert np.array_equal(image, cv2.resize(photograph, SIZE[::-1], interpolation=cv2.INTER_AREA))
        assert np.array_equal(layout, sample_to_frame(reader.layout(name), SIZE))


def test_regions_are_the_stored_segments(reader):
    sources = BankSources(reader, (48, 64))  # their own size: nothing is sampled
    n_regions = 0
    for number, name in enumerate(sources.names):
        picture, segments = sources[number], sources.segments(number)
        components = find_components(reader.layout(name))
        for i, (id, class_id) in enumerate(zip(segments.segment_ids, segments.class_ids, strict=True)):
            own = picture.regions == i + 1
            assert (picture.layout[own] == class_id).all()
            assert len(np.unique(components.labels[own])) == 1
            assert own.sum() == (components.labels == components.labels[own][0]).sum()
            mask = reader.segment_mask(segments.shard, int(id))
            assert np.array_equal(own[own.any(1)][:, own.any(0)], mask)
            n_regions += 1
        assert picture.regions.max() == len(segments.rows)
    assert n_regions > 8


@pytest.mark.parametrize("budget", [0, 2 * 32 * 64 * 7, 1 << 30])
def test_what_is_kept_is_what_would_be_decoded(reader, tmp_path, budget):
    cached = BankSources(reader, SIZE, cache=tmp_path / "cache", budget=budget)
    cached.prepare()
    plain = BankSources(reader, SIZE)
    for number in range(3):
        for kept, decoded in zip(cached[number], plain[number], strict=True):
            assert np.array_equal(kept, decoded)
    files = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.npy"))
    assert files <= min(budget, 3 * 32 * 64 * 7) + 3 * 128


def test_kept_sources_are_decoded_once_by_all_processes(reader, tmp_path, monkeypatch):
    sources = BankSources(reader, SIZE, cache=tmp_path / "cache")
    first = sources[1]
    again = pickle.loads(pickle.dumps(sources))
    monkeypatch.setattr(Reader, "photograph", None)
    assert np.array_equal(again[1].image, first.image)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_cache_that_was_cut_short_is_made_anew(reader, tmp_path, left):
    whole = BankSources(reader, SIZE, cache=tmp_path / "cache")[1]
    for path in (tmp_path / "cache").rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:left])
    again = BankSources(reader, SIZE, cache=tmp_path / "cache")[1]
    for one, other in zip(again, whole, strict=True):
        assert np.array_equal(one, other)


def test_a_picture_is_the_callers_own(reader):
    sources = BankSources(reader, SIZE)
    sources[0].image[:] = 0
    assert sources[0].image.any()


def test_what_was_kept_of_a_bank_that_has_changed_goes(photos, rebuild_bank, reader, tmp_path):
    BankSources(reader, SIZE, cache=tmp_path / "cache").prepare()
    photos.add("f")
    rebuild_bank(photos.spec)
    BankSources(Reader(tmp_path / "bank"), SIZE, cache=tmp_path / "cache").prepare()
    (folder,) = (tmp_path / "cache").iterdir()
    assert np.load(folder / "image.npy").shape == (4, *SIZE, 3)


def test_an_interrupted_filling_leaves_nothing(reader, tmp_path):
    def stop(done, total, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BankSources(reader, SIZE, cache=tmp_path / "cache", progress=stop).prepare()
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written_is_told_in_a_sentence(reader, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        BankSources(reader, SIZE, cache=tmp_path / "cache").prepare()


def test_splits_are_kept_apart(reader):
    assert held_out_split(reader) == "test"
    assert BankSources(reader, SIZE, "val").names[0].endswith("/d")
    assert len(BankSources(reader, SIZE, most=2)) == 2
    with pytest.raises(InputError, match="'holdout'"):
        BankSources(reader, SIZE, "holdout")


def test_a_bank_without_sources_says_so(photos, rebuild_bank, tmp_path):
    photos.add("a", "b")
    rebuild_bank(photos.spec, keep_sources=False)
    with pytest.raises(BankError, match="keeps no sources"):
        BankSources(Reader(tmp_path / "bank"), SIZE, cache=tmp_path / "cache").prepare()
    assert not list((tmp_path / "cache").iterdir())


def test_what_chooses_is_val_else_groups_of_train_and_never_what_is_measured(reader, photos, rebuild_bank):
    def names(reader):
        both = trained_and_held_out(reader, SIZE, most=100)
        return [[name.rpartition("/")[2] for name in sources.names] for sources in both]

    assert names(reader) == [["a", "b", "c"], ["d"]]
    (photos.root / "sources.csv").write_text("name,split,group\nd,test,\ne,test,\n")
    rebuild_bank(photos.spec)
    without = Reader(reader.path)
    assert names(without) == [["a", "b"], ["c"]]
    own, held_out = trained_and_held_out(without, SIZE, most=100)
    assert own.key != held_out.key
    (photos.root / "sources.csv").write_text("name,split,group\nd,val,\ne,val,\n")
    rebuild_bank(photos.spec)
    measured = Reader(reader.path)
    assert (held_out_split(measured), names(measured)) == ("val", [["a", "b"], ["c"]])
    (photos.root / "sources.csv").write_text("name,split,group\nb,test,\nc,test,\nd,test,\ne,test,\n")
    rebuild_bank(photos.spec)
    assert names(Reader(reader.path)) == [["a"], ["a"]], "with one alone there is no other"


def test_whole_groups_are_set_apart():
    groups = np.repeat([f"g{number:02d}" for number in range(20)], 3)
    apart = set_apart(groups)
    assert set(groups[apart]) == {"g09", "g19"}
    assert not set(groups[apart]) & set(groups[~apart])
    assert np.flatnonzero(set_apart(["one"] * 25)).tolist() == [9, 19]
    assert set_apart(["one", "two"]).tolist() == [False, True]
    assert set_apart([]).tolist() == []


def test_a_bank_says_whether_some_that_train_are_set_apart(reader, photos, rebuild_bank):
    from zeuxis.pipelines.training.task import subject_of

    assert not subject_of(reader, SIZE).apart
    (photos.root / "sources.csv").write_text("name,split,group\ne,test,\n")
    rebuild_bank(photos.spec)
    assert subject_of(Reader(reader.path), SIZE).apart
