"""Miniatures of COCO-Stuff, image folders, tar shards and Parquet files, laid out as they are published."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

SIZE = (24, 32)
"""Height and width of every picture, pixels."""

PERSON, CAR, TREE, SKY = 0, 2, 168, 156
"""Ids in the maps of things and stuff: one less than in labels.txt."""


def photograph(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """`(H, W, 3)` uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def things_and_stuff(size: tuple[int, int] = SIZE) -> np.ndarray:
    """`(H, W)` uint8: sky over trees, two persons and a car, a corner of void."""
    labels = np.full(size, TREE, np.uint8)
    labels[:8] = SKY
    labels[10:20, 2:8] = labels[10:20, 10:16] = PERSON
    labels[10:20, 20:30] = CAR
    labels[-2:, -2:] = 255
    return labels


def encoded(array: np.ndarray, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format)
    return buffer.getvalue()


def put(path: Path, content: np.ndarray | bytes | str) -> Path:
    """Writes a picture, bytes or text, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(
        content if isinstance(content, bytes) else encoded(content, "JPEG" if path.suffix == ".jpg" else "PNG")
    )
    return path


# COCO-Stuff


def coco_stuff(root: Path, *, images: str = "images/", labels: str = "stuffthingmaps_trainval2017/") -> Path:
    """The 2017 release: two photographs of train2017, one of val2017; the archives' other files beside them."""
    for split, numbers in (("train2017", (9, 25)), ("val2017", (139,))):
        for number in numbers:
            put(root / f"{images}{split}/{number:012d}.jpg", photograph(number))
            put(root / f"{labels}{split}/{number:012d}.png", things_and_stuff())
    put(root / "annotations/instances_val2017.json", "{}")
    put(root / f"{images}test2017/000000000001.jpg", photograph(1))
    return root


def coco_pixelmaps(root: Path) -> Path:
    """The stuff challenge: stuff ids 92 to 182 as in labels.txt, 183 for every thing, 0 for nothing."""
    labels = np.where(np.isin(things_and_stuff(), (PERSON, CAR)), 183, things_and_stuff().astype(int) + 1)
    labels[things_and_stuff() == 255] = 0
    put(root / "val2017/000000000139.jpg", photograph(139))
    put(root / "annotations/stuff_val2017_pixelmaps/000000000139.png", labels.astype(np.uint8))
    put(root / "annotations/stuff_val2017.json", "{}")
    return root


def spade_instances() -> np.ndarray:
    """What `coco_generate_instance_map.py` writes: the label map with the objects painted over it, from 0."""
    instances = things_and_stuff()
    instances[10:20, 2:8], instances[10:20, 10:16], instances[10:20, 20:30] = 0, 1, 2
    return instances


def coco_spade(root: Path) -> Path:
    """The folders that SPADE reads."""
    for split, portrait in (("train", ""), ("train", "_portrait"), ("val", "")):
        name = f"{139 + len(split + portrait):012d}"
        put(root / f"{split}_img{portrait}/{name}.jpg", photograph(len(split + portrait)))
        put(root / f"{split}_label{portrait}/{name}.png", things_and_stuff())
        put(root / f"{split}_inst{portrait}/{name}.png", spade_instances())
    return root


TEN_K_NAMES = ["unlabeled", "person", "car", "sky-other", "tree"]


def coco_10k(root: Path, names: Sequence[str] = TEN_K_NAMES) -> Path:
    """The 10k release: `.mat` files with S (from 1), names, captions and superpixels; three text files of names."""
    order = {PERSON: 2, CAR: 3, SKY: 4, TREE: 5, 255: 1}
    labels = np.vectorize(order.get)(things_and_stuff()).astype(np.uint8)
    for number, split in ((77, "train"), (349, "test")):
        name = f"COCO_train2014_{number:012d}"
        put(root / f"images/{name}.jpg", photograph(number))
        (root / "annotations").mkdir(exist_ok=True)
        content = {
            "S": labels,
            "names": np.array(names, object).reshape(-1, 1),
            "captions": np.array(["A man beside a car."], object),
            "regionMapStuff": np.ones(SIZE, np.uint16),
            "regionLabelsStuff": np.ones((1, 1), np.uint8),
        }
        savemat(root / f"annotations/{name}.mat", content, do_compression=True)
        put(root / f"imageLists/{split}.txt", f"{name}\n")
    put(root / "imageLists/all.txt", "COCO_train2014_000000000077\nCOCO_train2014_000000000349\n")
    return root


# photographs alone


def celeba(root: Path) -> Path:
    """Aligned faces, one more than the lists name."""
    for number in range(1, 5):
        put(root / f"img_align_celeba/{number:06d}.jpg", photograph(number))
    put(root / "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000099.jpg 0\n")
    put(root / "identity_CelebA.txt", "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 2880\n000004.jpg 1\n")
    put(root / "list_attr_celeba.txt", "4\n5_o_Clock_Shadow\n")
    return root


def compcars(root: Path) -> Path:
    """`data/` of the web-nature part: three cars of two models, one of them in neither list."""
    for path in ("78/1/2014/3ac218c0c6c378.jpg", "78/1/2013/7c5ac4ab3bb7d3.jpg", "9/22/2012/aa11.jpg"):
        put(root / "data/image" / path, photograph(len(path)))
    put(root / "data/train_test_split/classification/train.txt", "78/1/2014/3ac218c0c6c378.jpg\r\n")
    put(root / "data/train_test_split/classification/test.txt", "9/22/2012/aa11.jpg\r\n")
    put(root / "data/label/78/1/2014/3ac218c0c6c378.txt", "1\n1\n10 20 30 40\n")
    return root


def flowers(root: Path) -> Path:
    """Four flowers of two species; the fourth in no split."""
    for number in range(1, 5):
        put(root / f"jpg/image_{number:05d}.jpg", photograph(number))
    sets = {"trnid": [[3]], "valid": [[1]], "tstid": [[2]]}
    savemat(root / "setid.mat", {key: np.array(value, np.uint16) for key, value in sets.items()})
    savemat(root / "imagelabels.mat", {"labels": np.array([[77, 77, 5, 5]], np.uint8)})
    return root


# tar shards


def sample(number: int, **more: bytes) -> dict[str, bytes]:
    """The members of one source: photograph, label map, class and metadata; `more` by suffix, `_` for a dot."""
    members = {
        "jpg": encoded(photograph(number), "JPEG"),
        "seg.png": encoded((things_and_stuff() % 7).astype(np.uint8)),
        "cls": b"3",
        "json": b'{"caption": "a photograph"}',
    }
    return members | {suffix.replace("_", "."): data for suffix, data in more.items()}


def tar_of(samples: Mapping[str, Mapping[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar file with the members of each source one after the other."""
    return packed(
        [(f"{key}.{suffix}", data) for key, members in samples.items() for suffix, data in members.items()], format
    )


def packed(members: Sequence[tuple[str, bytes] | tarfile.TarInfo], format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar file with these members: files by name, or links, folders and devices as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, data = member
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(name: str, type: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, target
    return info


def shards(root: Path, count: int = 2, sources: int = 2) -> Path:
    """`train-000000.tar` and so on, with the same names in every one, as WebDataset's writers give them."""
    for shard in range(count):
        samples = {f"{number:06d}": sample(100 * shard + number) for number in range(sources)}
        put(root / f"train-{shard:06d}.tar", tar_of(samples))
    return root


# Parquet

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(count: int = 5, **columns: Any) -> pa.Table:
    """`image` and `annotation` as Hugging Face's `datasets` writes them, a class number, and whatever else."""
    cells = [{"bytes": encoded(photograph(row), "JPEG"), "path": f"{row}.jpg"} for row in range(count)]
    labels = [{"bytes": encoded((things_and_stuff() % 7).astype(np.uint8)), "path": None} for row in range(count)]
    held = {
        "image": pa.array(cells, IMAGE),
        "annotation": pa.array(labels, IMAGE),
        "label": pa.array(range(count), pa.int64()),
    }
    return pa.table(held | columns)


def parquet(path: Path, content: pa.Table, rows_a_group: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, row_group_size=rows_a_group, write_page_checksum=True)
    return path
