"""Exact, fast, certified, on a device: what each way of searching promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeuxis.index import fast
from zeuxis.index.query import make_query
from zeuxis.index.retriever import Retriever
from zeuxis.storage.errors import DamagedBankError, FilterError
from zeuxis.storage.reader import Reader

pytestmark = pytest.mark.filterwarnings("ignore:.*aspect ratio", "ignore:.*no segment")


@pytest.fixture
def retriever(golden_bank):
    return Retriever(Reader(golden_bank.path))


@pytest.fixture(scope="module")
def layouts(golden):
    return [golden[1][f"query_{number:02}"] for number in range(4)]


def hits(result):
    return [[(hit.segment_id, hit.score) for hit in component.hits] for component in result]


def test_an_exact_answer_is_certified_and_a_nominated_one_is_not(retriever, layouts):
    assert retriever.retrieve(layouts[0]).certified
    assert not retriever.retrieve(layouts[0], mode="fast").certified
    assert retriever.retrieve(layouts[0], mode="fast", certify=True).certified


def test_few_nominees_may_miss_but_never_misstate(retriever, layouts, monkeypatch):
    """What is nominated is scored exactly; and with so few nominees, something is missed."""
    monkeypatch.setattr(fast, "NOMINEES", 1)
    missed = 0
    for layout in layouts:
        exact = hits(retriever.retrieve(layout, k=9999))
        for found, every in zip(hits(retriever.retrieve(layout, k=2, mode="fast")), exact, strict=True):
            assert set(found) <= set(every)
            assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
            missed += found != every[:2]
    assert missed > 0


@pytest.mark.parametrize("options", [{}, {"weights": (0.3, 2.0)}, {"where": "area > 300"}])
def test_certified_is_exact_however_few_were_nominated(retriever, layouts, monkeypatch, options):
    monkeypatch.setattr(fast, "NOMINEES", 1)
    for layout in layouts:
        certified = retriever.retrieve(layout, k=3, mode="fast", certify=True, **options)
        exact = retriever.retrieve(layout, k=3, **options)
        assert hits(certified) == hits(exact)
        assert all(one.scored > 0 for one in certified if one.hits)


def test_a_floor_spares_the_exact_search_work(retriever, layouts):
    search = retriever._fast
    query = make_query(layouts[0], retriever.reader.geometry, retriever._thin)
    exact = search.exact.search(query, 3)
    spared = search.exact.search(query, 3, floor=exact.score[:, 0])
    assert np.array_equal(exact.segment_id[:, 0], spared.segment_id[:, 0])
    assert (spared.found < 3).any()
    assert spared.scored.sum() < exact.scored.sum()


def test_a_bank_without_parts_is_searched_exactly_and_refused_to_be_fast(golden_bank, layouts):
    reader = Reader(golden_bank.path)
    bare = Retriever(Reader(golden_bank.path, replace(reader.manifest, index=())))
    assert hits(bare.retrieve(layouts[0])) == hits(Retriever(reader).retrieve(layouts[0]))
    with pytest.raises(FilterError, match="mode 'fast': this bank has no candidate index; run `zeuxis rebuild`"):
        bare.retrieve(layouts[0], mode="fast")


def test_a_damaged_candidate_index_is_named_before_faiss_sees_it(golden_bank, layouts, tmp_path):
    import shutil

    shutil.copytree(golden_bank.path, tmp_path / "bank")
    (path, *_) = sorted((tmp_path / "bank" / "index").glob("*/candidates.faiss"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedBankError, match=r"candidates\.faiss: expected CRC32C"):
        Retriever(Reader(tmp_path / "bank")).retrieve(layouts[0], mode="fast")


def test_without_a_device_the_cpu_answers_and_says_so(retriever, layouts, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = retriever.retrieve(layouts[1], mode="gpu")
    assert hits(result) == hits(retriever.retrieve(layouts[1]))
    assert any("mode 'gpu': there is no CUDA device: the CPU answered" in said for said in result.warnings)


def test_a_device_answers_many_layouts_at_once_as_the_cpu_does(retriever, layouts, monkeypatch):
    """The device search itself, on the CPU, behind the same door."""
    from zeuxis.index import retriever as module
    from zeuxis.index.device import DeviceSearch

    device = DeviceSearch(retriever.reader, "cpu")
    asked = []
    monkeypatch.setattr(module, "DEVICE_BATCH", 3)
    monkeypatch.setitem(retriever.__dict__, "_device", device)
    original = device.search
    monkeypatch.setattr(device, "search", lambda queries, *rest: asked.append(len(queries)) or original(queries, *rest))
    found = list(retriever.retrieve_many(layouts, k=4, mode="gpu", workers=1))
    assert [hits(result) for result in found] == [hits(retriever.retrieve(layout, k=4)) for layout in layouts]
    assert asked == [3, 1]
    assert all(result.certified for result in found)


def test_threads_share_a_large_search_and_change_nothing(retriever, layouts, monkeypatch):
    plain = hits(retriever.retrieve(layouts[2]))
    monkeypatch.setattr("zeuxis.index.retriever.WORTH_THREADS", 0)
    monkeypatch.setattr("zeuxis.index.retriever.usable_cores", lambda: 3)
    assert hits(retriever.retrieve(layouts[2])) == plain


def test_a_filter_that_leaves_little_is_searched_through_to_its_last_list(retriever, layouts, monkeypatch):
    """What a filter leaves may lie in none of the lists that are nearest to the component."""
    from zeuxis.index import candidates

    monkeypatch.setattr(fast, "NOMINEES", 3)
    monkeypatch.setattr(candidates, "CHOICE", 0)
    monkeypatch.setattr(candidates, "PROBED", 1e-9)
    for layout in layouts:
        some = retriever.retrieve(layout, k=1, mode="fast", where="area < 90 OR area > 900")
        exact = retriever.retrieve(layout, k=1, where="area < 90 OR area > 900")
        assert [len(each.hits) for each in some] == [len(each.hits) for each in exact]
