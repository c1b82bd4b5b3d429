"""A network on the disk: any flipped bit is refused, wherever it is; files without a checksum are read as before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from zeuxis.storage.classes import SemanticClass
from zeuxis.storage.errors import InputError
from zeuxis.synth.checkpoint import CHECKSUM, Card, damage, is_whole, load_checkpoint, save_checkpoint, sealed

CARD = Card("toy", {"width": 0.5}, [SemanticClass(3, "tree", (0, 128, 0))], (32, 64), "bank", 1, step=7)
TENSORS = {
    "weight": torch.arange(12.0).reshape(3, 4),
    "half": torch.ones(5, dtype=torch.bfloat16),
    "steps": torch.tensor(3),
    "none": torch.empty(0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "toy.safetensors", TENSORS, CARD)
    return tmp_path / "toy.safetensors"


def test_what_was_saved_is_what_is_loaded_and_the_same_each_time(path: Path):
    card, held = load_checkpoint(path, "toy")
    assert (card.step, card.size, card.config, card.classes[0].name) == (7, (32, 64), {"width": 0.5}, "tree")
    assert set(held) == set(TENSORS)
    assert all(torch.equal(each, TENSORS[name]) and each.dtype == TENSORS[name].dtype for name, each in held.items())
    before = path.read_bytes()
    save_checkpoint(path, dict(reversed(TENSORS.items())), CARD)
    assert path.read_bytes() == before
    assert is_whole(path)


def test_a_sealed_header_keeps_its_order_and_numbers():
    text = json.dumps({"zeta": 0.1, "alpha": float("inf"), "ä": [1e-17]})
    again = sealed(text, TENSORS)
    assert list(json.loads(again)) == ["zeta", "alpha", "ä", CHECKSUM], "the order of a log's columns"
    assert damage(again, TENSORS) is None
    assert damage(again, TENSORS | {"steps": torch.tensor(4)}) is not None
    assert damage(again.replace("0.1", "0.2"), TENSORS) is not None


def test_any_flipped_bit_is_refused(path: Path):
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    flipped = np.random.default_rng(0).integers(8, size=len(whole))
    for at, bit in enumerate(flipped):
        data = whole.copy()
        data[at] ^= 1 << bit
        path.write_bytes(data.tobytes())
        with pytest.raises(InputError, match=r"toy\.safetensors"):
            load_checkpoint(path, "toy")
        assert not is_whole(path) or at < len(whole) - sum(each.nbytes for each in TENSORS.values()), at


def test_one_of_before_there_were_checksums_is_read(path: Path):
    text = CARD.to_json()
    assert CHECKSUM not in json.loads(text)
    save_file(TENSORS, path, {"card": text})
    assert load_checkpoint(path, "toy")[0].step == 7
    assert is_whole(path)
