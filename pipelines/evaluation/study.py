"""A study with people: blinded pairs on one page, and what their answers say (CRN and SIMS, perceptual experiments).

Sides and order are drawn; which side is which stands in a key beside the page, not in it. Sentinels, a photograph
beside the same photograph badly blurred, tell who did not look; whoever misses more than one in five does not count.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from ...storage.errors import InputError, sentence
from ...storage.images import Photograph
from ...storage.outputs import check_output, write_outputs
from ..report_pictures import data_uri
from ..report_style import STYLE

SENTINELS = 0.1
"""Sentinels a pair, at least one."""
MISSED = 0.2
"""Share of the sentinels that may be missed."""
BLUR = 0.06
"""Of a sentinel, as a share of its rows."""


@dataclass(frozen=True)
class Preference:
    """How often the first of two systems was preferred.

    Attributes:
        first, second: names of the systems.
        preferred, answered: pairs.
        low, high: Wilson's 95 % interval of the share.
        people: whose answers count; left_out: those who missed too many sentinels.
    """

    first: str
    second: str
    preferred: int
    answered: int
    low: float
    high: float
    people: int
    left_out: int


def write_study(
    out: Path,
    first: tuple[str, Sequence[Photograph]],
    second: tuple[str, Sequence[Photograph]],
    real: Sequence[Photograph],
    names: Sequence[str],
    seed: int = 0,
) -> list[Path]:
    """Writes `study.html`, to be opened or sent to people, and `study.key.json`, to be kept from them.

    Args:
        out: a folder that is there.
        first, second: name and pictures of the two systems, one a layout.
        real: photographs of the same layouts, for sentinels; names: of the layouts.
        seed: of sides, order and sentinels.

    Raises:
        InputError: there are no pairs, both systems are the same one, or the files cannot be written.
    """
    page, key = out / "study.html", out / "study.key.json"
    check_output(page)
    check_output(key)
    check_pair(first[0], second[0])
    if not names:
        raise InputError(sentence(page, expected="at least one pair", found="none"))
    random = np.random.default_rng(seed)
    pairs = [
        {"layout": name, "kind": "pair", "pictures": each}
        for name, *each in zip(names, first[1], second[1], strict=True)
    ]
    for i in random.choice(len(real), min(len(real), max(1, round(SENTINELS * len(names)))), replace=False).tolist():
        blurred = cv2.GaussianBlur(real[i], (0, 0), BLUR * real[i].shape[0])
        pairs.append({"layout": names[i], "kind": "sentinel", "pictures": [real[i], blurred]})
    shown, known = [], []
    for number, i in enumerate(random.permutation(len(pairs)).tolist()):
        swapped = bool(random.integers(2))
        left, right = reversed(pairs[i]["pictures"]) if swapped else pairs[i]["pictures"]
        shown.append({"left": _lossless(left), "right": _lossless(right)})
        known.append({"number": number, "layout": pairs[i]["layout"], "kind": pairs[i]["kind"], "swapped": swapped})
    pictures = json.dumps(shown)  # answers about others do not count for these
    what = json.dumps([first[0], second[0], seed, known]) + pictures
    study = hashlib.blake2b(what.encode(), digest_size=4).hexdigest()
    text = _PAGE.substitute(style=STYLE, study=study, pairs=pictures, count=len(shown))
    told = {"study": study, "first": first[0], "second": second[0], "pairs": known}
    write_outputs({key: (json.dumps(told, indent=1) + "\n").encode(), page: text.encode()})
    return [page, key]


def check_pair(first: str, second: str) -> None:
    """Refuses to compare a system with itself.

    Raises:
        InputError: both have the same name.
    """
    if first == second:
        raise InputError(sentence("--study", expected="two systems", found=f"{first!r} twice"))


def read_answers(key: str | Path, answers: Sequence[str | Path]) -> Preference:
    """What people preferred.

    Args:
        key: `study.key.json`; answers: the files that the page saved, one a person.

    Raises:
        InputError: a file is no such, belongs to another study, or nobody's answers count.
    """
    known = _loaded(key, ("study", "first", "second", "pairs"))
    pairs = _pairs(key, known["pairs"])
    sentinels = [number for number, pair in pairs.items() if pair["kind"] == "sentinel"]
    preferred = answered = people = 0
    seen: dict[str, str | Path] = {}
    for path in answers:
        told = _loaded(path, ("study", "answers"))
        sitting = str(told.get("sitting") or Path(path).resolve())  # pages of before name none
        if (twin := seen.setdefault(sitting, path)) is not path:
            raise InputError(sentence(path, expected="the answers of another person", found=f"those of {twin}"))
        if told["study"] != known["study"]:
            raise InputError(sentence(path, expected=f"answers to study {known['study']}", found=str(told["study"])))
        given = _sides(path, told["answers"])
        wrong = sum(given.get(number) != _first_side(pairs[number]) for number in sentinels)
        if wrong > MISSED * len(sentinels):
            continue
        people += 1
        for number, side in given.items():
            if number in pairs and pairs[number]["kind"] == "pair":
                answered += 1
                preferred += side == _first_side(pairs[number])
    if not answered:
        raise InputError(
            sentence(key, expected="answers of at least one person who looked", found=f"none in {len(answers)} files")
        )
    return Preference(
        known["first"],
        known["second"],
        preferred,
        answered,
        *wilson(preferred, answered),
        people,
        len(answers) - people,
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.959964, successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _pairs(key: str | Path, told: Any) -> Mapping[int, Any]:
    """The pairs of a key by their numbers."""
    try:
        pairs: dict[int, Any] = {pair["number"]: pair for pair in told}
        whole = all(
            isinstance(number, int) and pair["kind"] in ("pair", "sentinel") and isinstance(pair["swapped"], bool)
            for number, pair in pairs.items()
        )
    except (TypeError, KeyError):
        whole = False
    if not whole:
        raise InputError(sentence(key, expected="the pairs of a study", found="others", fix="write the study again"))
    return pairs


def _sides(path: str | Path, told: Any) -> dict[int, str]:
    """Somebody's answers by the numbers of the pairs."""
    try:
        return {int(number): side for number, side in told.items() if side in ("left", "right")}
    except (AttributeError, ValueError) as error:
        expected = "answers by the numbers of the pairs"
        raise InputError(sentence(path, expected=expected, found=f"{told!r:.60}")) from error


def _first_side(pair: Mapping[str, Any]) -> str:
    return "right" if pair["swapped"] else "left"


def _loaded(path: str | Path, wanted: Sequence[str]) -> dict[str, Any]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(sentence(path, f"cannot be read ({error.strerror})")) from error
    except (ValueError, RecursionError) as error:
        raise InputError(sentence(path, expected="a JSON file of a study", found="something else")) from error
    if not isinstance(found, dict) or not set(wanted) <= set(found):
        raise InputError(sentence(path, expected=f"a JSON file with {', '.join(wanted)}", found="another one"))
    return found


def _lossless(picture: Photograph) -> str:
    """A picture as it is: browsers enlarge both sides alike."""
    return data_uri(picture, max(picture.shape), exact=True)


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Which looks more real?</title>
<style>$style
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1.2rem; margin: 1.5rem 0; }
.pair button { border: 3px solid transparent; padding: 0; background: none; cursor: pointer; border-radius: 10px; }
.pair button:hover, .pair button:focus-visible { border-color: var(--accent); }
.pair img { border-radius: 8px; }
</style>
</head>
<body>
<main>
<p class="eyebrow">A study</p>
<h1>Which of the two looks more like a photograph?</h1>
<p class="lead">Choose by clicking, or with the arrow keys. There are $count pairs; at the end, save your answers.</p>
<p id="said" class="note"></p>
<div id="pair" class="pair"></div>
</main>
<script>
const pairs = $pairs, answers = {}, said = document.getElementById("said"), place = document.getElementById("pair");
let current = 0;
function show() {
  place.replaceChildren();
  if (current === pairs.length) return done();
  said.textContent = (current + 1) + " of " + pairs.length;
  for (const side of ["left", "right"]) {
    const button = document.createElement("button"), image = document.createElement("img");
    image.src = pairs[current][side]; image.alt = side;
    button.append(image); button.onclick = () => choose(side);
    place.append(button);
  }
}
function choose(side) { answers[current] = side; current += 1; show(); }
function done() {
  said.textContent = "Thank you. ";
  const link = document.createElement("a"), sitting = Date.now() + "-" + Math.random(),
    text = JSON.stringify({study: "$study", sitting, answers});
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "answers-" + Date.now() + ".json"; link.textContent = "Save your answers";
  said.append(link);
}
document.onkeydown = event => {
  const side = {ArrowLeft: "left", ArrowRight: "right"}[event.key];
  if (side && current < pairs.length) choose(side);
};
show();
</script>
</body>
</html>
""")
