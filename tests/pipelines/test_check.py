"""`check` tells what a data set holds, counts right, and leaves out nothing that is wrong."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from zeuxis.pipelines.check import BATCH, SHOWN, CheckReport, check
from zeuxis.storage.errors import DatasetError

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
realdata = [pytest.mark.realdata, pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")]


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def pair(root: Path, name: str, labels: np.ndarray) -> None:
    write(root / "images" / f"{name}.jpg", np.zeros((*labels.shape, 3), np.uint8))
    write(root / "labels" / f"{name}.png", labels)


def shown(report: CheckReport) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(report.render())
    return console.file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes, two good sources of two sizes, and one of every problem that check can see."""
    (tmp_path / "classes.csv").write_text(
        'id,name,colour,thing,thin\n2,sky,"1,2,3",,\n5,pole,"4,5,6",yes,yes\n7,tree,"7,8,9",,\n'
    )
    (tmp_path / "LICENSE").write_text("CC0\n")
    pair(tmp_path, "good", np.array([[2, 2, 2, 5], [255, 2, 5, 5]], np.uint8))
    pair(tmp_path, "test/good", np.full((3, 4), 2, np.uint8))
    write(tmp_path / "depths/good.png", np.ones((2, 4), np.uint16))
    labels = np.full((2, 4), 2, np.uint8)
    for name in ("fake", "lonely", "mismatch", "depth", "strange"):
        pair(tmp_path, name, labels)
    (tmp_path / "images/fake.jpg").write_bytes(b"text")
    (tmp_path / "labels/lonely.png").unlink()
    write(tmp_path / "labels/mismatch.png", labels[:1])
    write(tmp_path / "depths/depth.png", np.ones((2, 5), np.uint16))
    write(tmp_path / "labels/strange.png", labels + 1)
    (tmp_path / "images/notes.txt").write_text("hello")
    return tmp_path


def test_sources_classes_and_sizes_are_counted(root: Path) -> None:
    report = check(f"folder:{root}")
    assert report.dataset == f"folder:{root}"
    assert report.licence == "CC0"
    assert (report.sources, report.usable, report.with_depth) == (7, 2, 1)
    assert report.splits == {"test": 1, "train": 6}
    assert len(report.groups) == 7
    assert report.sizes == {(2, 4): 1, (3, 4): 1}
    assert report.void_share == pytest.approx(1 / 20)
    frame = report.to_frame()
    assert frame.to_dict("list") == {
        "id": [2, 5, 7],
        "name": ["sky", "pole", "tree"],
        "colour": [(1, 2, 3), (4, 5, 6), (7, 8, 9)],
        "thing": [False, True, False],
        "thin": [False, True, False],
        "share": pytest.approx([16 / 20, 3 / 20, 0]),
        "sources": [2, 1, 0],
    }


def test_every_problem_is_told_with_its_reason(root: Path) -> None:
    report = check(f"folder:{root}")
    assert {problem.file: problem.reason for problem in report.problems} == {
        "fake": "unreadable-image",
        "lonely": "missing-label",
        "mismatch": "size-mismatch",
        "depth": "size-mismatch",
        "strange": "unknown-id",
        "images/notes.txt": "not-a-picture",
    }
    assert "3 (8 pixels)" in next(p.sentence for p in report.problems if p.file == "strange")
    assert report.sources == report.usable + len(report.problems) - 1


def test_the_report_shows_classes_that_occur_and_the_problems(root: Path) -> None:
    text = shown(check(f"folder:{root}"))
    assert all(word in text for word in ("sky", "80.00%", "thing, thin", "void: 5.0%", "2x4 (1)", "CC0", "notes.txt"))
    assert "tree" not in text
    assert "1 classes of the list occur nowhere" in text


def test_a_long_list_of_problems_is_cut_and_says_so(tmp_path: Path) -> None:
    for number in range(SHOWN + 7):
        write(tmp_path / "images" / f"[red]{number}.jpg", np.zeros((2, 2, 3), np.uint8))
    pair(tmp_path, "good", np.zeros((2, 2), np.uint8))
    report = check(f"folder:{tmp_path}")
    text = shown(report)
    assert len(report.problems) == SHOWN + 7
    assert "7 more not shown" in text
    assert f"missing-label {SHOWN + 7}" in text
    assert "[red]0" in text, "a file name was taken for markup"


def test_progress_ends_at_the_number_of_sources(tmp_path: Path) -> None:
    n = 2 * BATCH + 3
    for number in range(n):
        pair(tmp_path, str(number), np.zeros((2, 2), np.uint8))
    told: list[tuple[int, int]] = []
    report = check(f"folder:{tmp_path}", progress=lambda done, total: told.append((done, total)))
    assert told == [(BATCH, n), (2 * BATCH, n), (n, n)]
    assert report.class_sources == {0: n}


def test_a_data_set_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="an empty folder"):
        check(f"folder:{tmp_path}")


class TestRealData:
    pytestmark = realdata

    def test_nyu_is_whole(self) -> None:
        report = check(f"nyu:{DATA / 'nyu'}")
        assert (report.sources, report.usable, report.with_depth) == (1200, 1200, 1200)
        assert report.splits == {"test": 200, "train": 1000}
        assert report.sizes == {(480, 640): 1200}
        assert report.problems == ()
        assert report.pixels == 1200 * 480 * 640
        assert set(report.class_pixels) == set(range(39))

    def test_camvid_shares_are_those_of_its_label_maps(self) -> None:
        report = check(f"camvid:{DATA / 'camvid'}")
        assert (report.sources, report.usable, report.with_depth) == (468, 468, 0)
        assert report.splits == {"test": 101, "train": 277, "val": 90}
        assert report.groups == {"0001TP": 62, "0006R0": 101, "0016E5": 305}
        assert report.sizes == {(360, 480): 468}
        assert report.problems == ()
        counts, sources = np.zeros(12, np.int64), np.zeros(12, np.int64)
        for path in (DATA / "camvid").glob("*/labels/*.png"):
            with Image.open(path) as picture:
                histogram = np.array(picture.histogram()[:12])
            counts += histogram
            sources += histogram > 0
        assert report.void_pixels == counts[11]
        assert report.class_pixels == dict(enumerate(counts[:11].tolist()))
        assert report.class_sources == dict(enumerate(sources[:11].tolist()))
