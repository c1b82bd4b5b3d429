"""A study with people: blinded pairs, sentinels, and answers that count."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from zeuxis.pipelines.evaluation.study import read_answers, wilson, write_study
from zeuxis.storage.errors import InputError

NAMES = [f"layout-{i}" for i in range(20)]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    random = np.random.default_rng(1)
    sets = [random.integers(0, 256, (20, 24, 32, 3), np.uint8) for _ in range(3)]
    write_study(tmp_path, ("ours", sets[0]), ("theirs", sets[1]), sets[2], NAMES, seed=5)
    return tmp_path


def answered(folder: Path, name: str, prefer: str, look: bool = True) -> Path:
    """Somebody's answers who always prefers one system, and sees sentinels where they look."""
    key = json.loads((folder / "study.key.json").read_text())
    answers = {}
    for pair in key["pairs"]:
        first = (pair["kind"] == "sentinel" and look) or (pair["kind"] == "pair" and prefer == key["first"])
        answers[pair["number"]] = "left" if first != pair["swapped"] else "right"
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"study": key["study"], "answers": answers}))
    return path


def test_the_page_does_not_tell_which_is_which(study: Path):
    page = (study / "study.html").read_text()
    assert "ours" not in page
    assert "theirs" not in page
    assert "layout-" not in page
    pairs = json.loads(re.search(r"const pairs = (\[.*?\]), answers", page).group(1))
    key = json.loads((study / "study.key.json").read_text())
    assert len(pairs) == len(key["pairs"]) == 22
    assert sum(pair["kind"] == "sentinel" for pair in key["pairs"]) == 2
    assert {pair["swapped"] for pair in key["pairs"]} == {True, False}
    assert [pair["layout"] for pair in key["pairs"]] != sorted(pair["layout"] for pair in key["pairs"])


def test_pictures_stand_on_the_side_that_the_key_says(tmp_path: Path):
    import base64
    import io

    from PIL import Image

    white, black = np.full((2, 24, 32, 3), 255, np.uint8), np.zeros((2, 24, 32, 3), np.uint8)
    write_study(tmp_path, ("white", white), ("black", black), white, ["a", "b"])
    pairs = json.loads(re.search(r"const pairs = (\[.*?\]), answers", (tmp_path / "study.html").read_text()).group(1))
    for told in json.loads((tmp_path / "study.key.json").read_text())["pairs"]:
        if told["kind"] == "pair":
            left = base64.b64decode(pairs[told["number"]]["left"].partition(",")[2])
            assert np.asarray(Image.open(io.BytesIO(left))).mean() == (0 if told["swapped"] else 255)


def test_answers_about_other_pictures_are_none_to_these(study: Path):
    answers, others = answered(study, "a", "ours"), np.zeros((20, 24, 32, 3), np.uint8)
    write_study(study, ("ours", others), ("theirs", others), others, NAMES, seed=5)
    with pytest.raises(InputError, match=r"a\.json: expected answers to study"):
        read_answers(study / "study.key.json", [answers])


def test_a_system_is_not_compared_with_itself(tmp_path: Path):
    pictures = np.zeros((2, 24, 32, 3), np.uint8)
    with pytest.raises(InputError, match="--study: expected two systems, found 'ours' twice"):
        write_study(tmp_path, ("ours", pictures), ("ours", pictures), pictures, ["a", "b"])
    assert not list(tmp_path.iterdir())


def test_answers_are_counted_whatever_side_things_stood_on(study: Path):
    both = [answered(study, "a", "ours"), answered(study, "b", "theirs"), answered(study, "c", "ours")]
    told = read_answers(study / "study.key.json", both)
    assert (told.preferred, told.answered, told.people, told.left_out) == (40, 60, 3, 0)
    assert told.low < 2 / 3 < told.high
    again = study / "copy.json"
    again.write_text(json.dumps({**json.loads(both[0].read_text()), "sitting": "1"}))
    twice = [again, both[1], Path(shutil.copy(again, study / "mailed twice.json"))]
    for those in ([*both, study / "." / "a.json"], twice):
        with pytest.raises(InputError, match=r"expected the answers of another person, found those of .*\.json"):
            read_answers(study / "study.key.json", those)


def test_who_did_not_look_does_not_count(study: Path):
    told = read_answers(
        study / "study.key.json", [answered(study, "a", "ours"), answered(study, "b", "theirs", look=False)]
    )
    assert (told.preferred, told.answered, told.people, told.left_out) == (20, 20, 1, 1)
    with pytest.raises(InputError, match="at least one person who looked"):
        read_answers(study / "study.key.json", [answered(study, "b", "theirs", look=False)])


def test_strange_files_are_named(study: Path):
    key = study / "study.key.json"
    (study / "other.json").write_text(json.dumps({"study": "ffffffff", "answers": {}}))
    (study / "broken.json").write_text("{")
    for name, said in (("other.json", "answers to study"), ("broken.json", "a JSON file"), ("none.json", "cannot be")):
        with pytest.raises(InputError, match=said):
            read_answers(key, [study / name])


def test_wilsons_interval():
    assert wilson(15, 20) == pytest.approx((0.531, 0.888), abs=1e-3)
    low, high = wilson(0, 20)
    assert low == 0
    assert high == pytest.approx(0.161, abs=1e-3)


@pytest.mark.parametrize("answers", ['["left"]', '"left"', "3", "null", '{"first": "left"}', '{"1.5": "right"}'])
def test_answers_that_are_none_are_refused(answers: str, study: Path):
    told = json.loads((study / "study.key.json").read_text())
    path = study / "garbage.json"
    path.write_text(f'{{"study": "{told["study"]}", "answers": {answers}}}')
    with pytest.raises(InputError, match=r"garbage\.json: expected answers by the numbers"):
        read_answers(study / "study.key.json", [path])


@pytest.mark.parametrize("pairs", [3, None, [1], [{}], [{"number": 0, "kind": "pair"}], [{"number": [], "kind": 1}]])
def test_a_key_without_pairs_is_refused(pairs: object, study: Path):
    key = study / "study.key.json"
    key.write_text(json.dumps(json.loads(key.read_text()) | {"pairs": pairs}))
    with pytest.raises(InputError, match=r"study\.key\.json: expected the pairs of a study"):
        read_answers(key, [])


def test_a_file_nested_without_end_is_refused(study: Path):
    (study / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="expected a JSON file of a study"):
        read_answers(study / "study.key.json", [study / "deep.json"])
