"""Errors cross process borders whole, and say one sentence."""

from __future__ import annotations

import pickle

import pytest

from zeuxis.storage import errors
from zeuxis.storage.errors import SourceError, ZeuxisError, sentence

TREE = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ZeuxisError)]


def test_the_tree_is_the_one_that_is_drawn():
    drawn = [line.split("─ ")[1].split()[0] for line in errors.__doc__.splitlines() if "─ " in line]
    assert sorted(drawn) == sorted(kind.__name__ for kind in TREE if kind is not ZeuxisError)
    for kind in ("DamagedBankError", "SchemaError", "NotABankError", "BankBusyError"):
        assert issubclass(getattr(errors, kind), errors.BankError)
    for kind in ("LayoutError", "DatasetError", "FilterError"):
        assert issubclass(getattr(errors, kind), errors.InputError)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling(kind):
    error = kind("word", "a sentence") if kind is SourceError else kind("a sentence")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is kind
        assert str(back) == "a sentence"
        assert getattr(back, "reason", None) == getattr(error, "reason", None)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((("file.png", "is gone"), {}), "file.png: is gone"),
        ((("file.png",), {"expected": "a", "found": "b", "fix": "do c"}), "file.png: expected a, found b; do c"),
        ((("file.png", "is bad"), {"found": "b"}), "file.png: is bad, found b"),
        ((("file.png", "line\n  break"), {"fix": "do\tc"}), "file.png: line break; do c"),
    ],
)
def test_a_sentence_names_its_subject_first_and_is_one_line(parts, said):
    assert sentence(*parts[0], **parts[1]) == said
