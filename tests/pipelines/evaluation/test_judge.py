"""Halves of held-out photographs that are compared with each other: no group is in both."""

from __future__ import annotations

import numpy as np
import pytest

from zeuxis.pipelines.evaluation.judge import first_half


def half_of(groups: str) -> str:
    """The groups of the first half, a letter a source."""
    return "".join(np.array(list(groups))[first_half(list(groups))])


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("aaaabbbb", "aaaa"),
        ("aabbbccc", "aabbb"),
        ("aaaaaaabb", "aaaaaaa"),
        ("abcabcabcd", "ababab"),
        ("zzzyyx", "zzz"),
        ("abcdefg", "abc"),
    ],
)
def test_halves_are_of_different_groups_and_about_equal(groups: str, first: str):
    assert half_of(groups) == first


@pytest.mark.parametrize("groups", ["aaaa", "aaaaa", "abbb", "aaab", "abbbc"])
def test_without_two_groups_for_each_half_the_first_sources_stand_against_the_others(groups: str):
    assert first_half(list(groups)).tolist() == [i < len(groups) // 2 for i in range(len(groups))]


def test_a_half_never_has_fewer_than_two_sources_nor_shares_a_group_where_that_can_be():
    random = np.random.default_rng(0)
    for _ in range(300):
        groups = random.integers(0, random.integers(1, 6), random.integers(4, 12)).astype(str)
        half = first_half(groups)
        assert min(half.sum(), (~half).sum()) >= 2
        if set(groups[half]) & set(groups[~half]):
            first = np.cumsum([(groups == name).sum() for name in dict.fromkeys(groups.tolist())])
            assert not ((first >= 2) & (first <= len(groups) - 2)).any()
