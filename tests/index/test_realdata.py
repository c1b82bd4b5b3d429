"""On real photographs the search equals plain NumPy brute force, on hundreds of queries."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeuxis

sys.path.insert(0, str(Path(__file__).parent))
import oracle

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.exists(), reason="the real photographs are not there"),
]
FRAME = (96, 128)


def read(path, void):
    layout = np.array(Image.open(path)).astype(np.uint16)
    layout[layout == void] = zeuxis.VOID
    return layout


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "labels", "void", "bank_size", "queries"),
    [("nyu", "nyu/labels", 39, 150, 20), ("camvid", "camvid/train/labels", 11, 100, 12)],
)
def test_real_queries_equal_brute_force(kind, labels, void, bank_size, queries, dask_address, tmp_path):
    files = sorted((DATA / labels).glob("*.png"))
    taken, asked = files[: 2 * bank_size : 2], files[1 :: len(files) // queries]
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number, path in enumerate(taken):
        (tmp_path / "data/labels" / path.name).symlink_to(path)
        size = Image.open(path).size
        Image.new("RGB", size, (number, number // 256, 0)).save(tmp_path / "data/images" / path.name)
    (tmp_path / "data/classes.csv").write_text(
        "id,name,void\n" + "".join(f"{id},class {id},{str(id == void).lower()}\n" for id in range(void + 1))
    )
    zeuxis.rebuild(
        f"folder:{tmp_path / 'data'}",
        tmp_path / "bank",
        frame=FRAME,
        min_area=20,
        patches=False,
        scheduler=dask_address,
    )
    bank = zeuxis.open(tmp_path / "bank")
    by_class = {}
    for path in taken:
        layout = read(path, void)
        framed = oracle.sample(layout, FRAME).astype(np.int64)
        for class_id, mask in oracle.components(layout, FRAME, 20):
            by_class.setdefault(class_id, []).append((mask, oracle.context(framed, mask)))
    asked_components = 0
    for path in asked:
        layout = read(path, void)
        framed = oracle.sample(layout, FRAME).astype(np.int64)
        found = {(c.class_id, c.box, c.area): c for c in bank.retrieve(layout, k=5)}
        wanted = oracle.components(layout, FRAME, 20)
        assert len(found) == len(wanted)
        for class_id, mask in wanted:
            context = oracle.context(framed, mask)
            scores = sorted(
                (oracle.score(other, around, mask, context)[0] for other, around in by_class.get(class_id, ())),
                reverse=True,
            )
            component = found[class_id, oracle.box_of(mask), int(mask.sum())]
            assert [hit.score for hit in component.hits] == scores[:5]
            asked_components += 1
    assert asked_components >= 150
