"""YAML that people write is read as values alone: no tags, no aliases, nothing that grows."""

import pytest
import yaml

from zeuxis.storage.plain_yaml import load_yaml


def test_values_come_through():
    assert load_yaml("a: [1, x, null, true]\nb: {c: 0.5}") == {"a": [1, "x", None, True], "b": {"c": 0.5}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x", "aliases such as"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[" * 3000, "recursion|depth"),
        ("a: " + "9" * 5000, "digits"),
        ("a: [", "expected"),
    ],
)
def test_what_could_grow_or_run_is_refused(text, words):
    with pytest.raises(yaml.YAMLError, match=words):
        load_yaml(text)


def test_a_key_that_stands_there_twice_is_refused():
    with pytest.raises(yaml.YAMLError, match="sky stands there twice"):
        load_yaml("sky: null\nroad: 1\nsky: road")
