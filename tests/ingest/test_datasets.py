"""Data sets: which sources they list, where those belong, and what is refused as a whole."""

import io
import pickle
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from zeuxis.ingest.datasets import KINDS, open_dataset
from zeuxis.ingest.datasets.base import EncodedSource
from zeuxis.ingest.datasets.camvid import CLASSES as CAMVID_CLASSES
from zeuxis.ingest.datasets.camvid import PALETTE, CamVid
from zeuxis.ingest.datasets.nyu import CLASSES as NYU_CLASSES
from zeuxis.ingest.datasets.nyu import NyuFolder, NyuMat
from zeuxis.storage.classes import VOID, ClassTable
from zeuxis.storage.errors import DatasetError, SourceError

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
realdata = [pytest.mark.realdata, pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")]
LABELS = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def pair(root: Path, name: str, labels: np.ndarray = LABELS, suffix: str = ".jpg") -> None:
    """One photograph and its label map in `images/` and `labels/`; the name goes into its pixels."""
    write(root / "images" / (name + suffix), np.full((*LABELS.shape, 3), sum(name.encode()) % 256, np.uint8))
    write(root / "labels" / f"{name}.png", labels)


def names(root: Path, kind: str = "folder") -> list[str]:
    return [ref.name for ref in open_dataset(f"{kind}:{root}").sources()]


# which data set


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("photographs", ["no colon", "camvid, celeba, cityscapes"]),
        ("nyu:", ["no path"]),
        ("ade:photographs", ["'ade'", "camvid, celeba, cityscapes"]),
        ("nyu:/no/such/place", ["/no/such/place", "images/NNNN.jpg", "no such file or folder"]),
        ("folder:/no/such/place", ["/no/such/place", "images/ and labels/"]),
    ],
)
def test_a_specification_that_names_nothing_is_refused_in_one_sentence(spec: str, words: list[str]) -> None:
    with pytest.raises(DatasetError) as caught:
        open_dataset(spec)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_kind_is_listed_under_its_own_name(tmp_path: Path) -> None:
    for kind in set(KINDS) - {"scenes"}:
        dataset = open_dataset(f"{kind}:{tmp_path}")
        assert dataset.kind == kind
        assert dataset.spec == f"{kind}:{tmp_path}"


@pytest.mark.parametrize("kind", ["folder", "nyu", "camvid"])
@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], "an empty folder"),
        (["photos/a.jpg", "notes.txt"], "notes.txt, photos/"),
        (["images/a.jpg"], "images/"),
        (["labels/a.png"], "labels/"),
        (["images/notes.txt", "labels/notes.txt"], "no picture in images/"),
    ],
)
def test_a_root_without_photographs_or_label_maps_is_refused(
    tmp_path: Path, kind: str, files: list[str], found: str
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"{kind}:{tmp_path}").sources()
    assert found in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "nyu", "camvid"])
def test_a_data_set_goes_to_a_worker_as_little_more_than_its_path(tmp_path: Path, kind: str) -> None:
    for number in range(200):
        pair(tmp_path, f"{number:04d}")
    dataset = open_dataset(f"{kind}:{tmp_path}")
    refs, decoding = dataset.sources(), dataset.decoding
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000 if kind != "folder" else len(sent) < 20_000
    again = pickle.loads(sent)
    assert again.sources() == refs
    assert again.decoding == decoding
    assert again.read(refs[3]) == dataset.read(refs[3])


# folder


def test_partners_share_their_path_below_the_folders(tmp_path: Path) -> None:
    for name in ("b", "a.1", "deep/er/a", "deep/b"):
        pair(tmp_path, name, suffix=".PNG")
    refs = open_dataset(f"folder:{tmp_path}").sources()
    assert [ref.name for ref in refs] == ["a.1", "b", "deep/b", "deep/er/a"]
    assert refs[3].image == "images/deep/er/a.PNG"
    assert refs[3].layout == "labels/deep/er/a.png"
    assert refs[3].depth is None


def test_a_source_without_its_partner_is_still_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pair(tmp_path, name)
    (tmp_path / "images/a.jpg").unlink()
    (tmp_path / "labels/b.png").unlink()
    a, b, c = open_dataset(f"folder:{tmp_path}").sources()
    assert (a.image, a.layout) == (None, "labels/a.png")
    assert (b.image, b.layout) == ("images/b.jpg", None)
    assert c.image
    assert c.layout


@pytest.mark.parametrize("twin", ["images/a.png", "labels/a.bmp", "depths/a.npy"])
def test_two_files_of_one_name_make_one_reject_that_names_both(tmp_path: Path, twin: str) -> None:
    pair(tmp_path, "a")
    write(tmp_path / "depths/a.png", LABELS)
    if twin.endswith(".npy"):
        (tmp_path / "depth.yaml").write_text("metres_per_unit: 1")
        np.save(tmp_path / twin, LABELS)
    else:
        write(tmp_path / twin, LABELS)
    dataset = open_dataset(f"folder:{tmp_path}")
    (ref,) = dataset.sources()
    with pytest.raises(SourceError) as caught:
        dataset.read(ref)
    assert caught.value.reason == "duplicate-name"
    first = {"images": "a.jpg", "labels": "a.bmp", "depths": "a.npy"}[twin.split("/")[0]]
    assert first in str(caught.value)
    assert Path(twin).suffix in str(caught.value)


def test_what_is_no_source_is_told_and_not_listed(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    write(tmp_path / "depths/lonely.png", LABELS)
    for file in ("images/.a.jpg", "images/Thumbs.db", "labels/notes.txt", "images/.thumbnails/a.jpg"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"x")
    (tmp_path / "images/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert [ref.name for ref in dataset.sources()] == ["a"]
    assert {problem.file: problem.reason for problem in dataset.ignored()} == {
        "images/.a.jpg": "hidden-file",
        "images/.thumbnails": "hidden-file",
        "images/Thumbs.db": "not-a-picture",
        "images/gone.jpg": "not-a-file",
        "labels/notes.txt": "not-a-picture",
        "depths/lonely.png": "depth-without-source",
    }
    assert all(str(tmp_path) in problem.sentence for problem in dataset.ignored())


def test_linked_folders_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    pair(tmp_path / "elsewhere", "a")
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "linked").symlink_to(tmp_path / "elsewhere" / folder)
        (tmp_path / "elsewhere" / folder / "again").symlink_to(tmp_path / "data" / folder)
    assert names(tmp_path / "data") == ["linked/a"]


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_a_file_name_that_is_no_text_is_one_reject(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    (tmp_path / "images" / b"b\xff.jpg".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    dataset = open_dataset(f"folder:{tmp_path}")
    ref = dataset.sources()[1]
    ref.name.encode()
    with pytest.raises(SourceError, match=r"b\\xff") as caught:
        dataset.read(ref)
    assert caught.value.reason == "unreadable-name"


def test_the_first_folder_gives_the_split_and_sources_csv_overrules_it(tmp_path: Path) -> None:
    for name in ("a", "val/b", "test/c", "night/d", "train/e"):
        pair(tmp_path, name)
    found = {ref.name: (ref.split, ref.group) for ref in open_dataset(f"folder:{tmp_path}").sources()}
    assert found == {
        "a": ("train", "a"),
        "val/b": ("val", "val/b"),
        "test/c": ("test", "test/c"),
        "night/d": ("train", "night/d"),
        "train/e": ("train", "train/e"),
    }
    (tmp_path / "sources.csv").write_text("name,split,group\na,test,g\nval/b,,g\ntest/c,train,\nnobody,val,\n")
    dataset = open_dataset(f"folder:{tmp_path}")
    found = {ref.name: (ref.split, ref.group) for ref in dataset.sources()}
    assert found["a"] == ("test", "g")
    assert found["val/b"] == ("val", "g")
    assert found["test/c"] == ("train", "test/c")
    (problem,) = dataset.ignored()
    assert problem.reason == "unknown-source"
    assert "'nobody'" in problem.sentence


@pytest.mark.parametrize("row", ["a,testing,", "a,train,\na,test,", ",train,", "a,train,g,more"])
def test_a_row_of_sources_csv_that_says_nothing_clear_is_refused(tmp_path: Path, row: str) -> None:
    pair(tmp_path, "a")
    (tmp_path / "sources.csv").write_text(f"name,split,group\n{row}\n")
    with pytest.raises(DatasetError, match=r"sources\.csv"):
        open_dataset(f"folder:{tmp_path}").sources()


def test_without_a_class_file_ids_are_names_and_255_is_void(tmp_path: Path) -> None:
    decoding = open_dataset(f"folder:{tmp_path}").decoding
    assert [entry.name for entry in decoding.classes] == [str(id) for id in range(255)]
    assert decoding.void == {255}
    assert decoding.palette is None


CLASS_FILES = {
    "classes.csv": 'id,name,colour,thing,thin,void\n3,sky,"1, 2, 3",,,\n7,pole,#0a0B0c,yes,1,\n9,none,,,,true\n',
    "classes.yaml": """
classes:
  - {id: 7, name: pole, color: '#0a0b0c', thing: true, thin: true}
  - {id: 3, name: sky, colour: [1, 2, 3]}
  - {id: 9, name: none, void: true}
metres_per_unit: 0.5
""",
    "classes.yml": "[{id: 3, name: sky, colour: '1,2,3'}, {id: 9, void: true}, "
    "{id: 7, name: pole, colour: (10 11 12), thing: yes, thin: yes}]",
}


@pytest.mark.parametrize("file", CLASS_FILES)
def test_a_class_file_is_read_alike_in_every_form(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text(CLASS_FILES[file])
    decoding = open_dataset(f"folder:{tmp_path}").decoding
    sky, pole = decoding.classes
    assert (sky.id, sky.name, sky.colour, sky.thing, sky.thin) == (3, "sky", (1, 2, 3), False, False)
    assert (pole.id, pole.name, pole.colour, pole.thing, pole.thin) == (7, "pole", (10, 11, 12), True, True)
    assert decoding.void == {9}
    assert decoding.palette == {(1, 2, 3): 3, (10, 11, 12): 7}
    assert decoding.metres_per_unit == (0.5 if file == "classes.yaml" else 0.001)


def test_colours_may_stand_in_three_columns_and_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id, name, r, g, b\n0,sky,1,2,3\n1,tree,,,\n")
    decoding = open_dataset(f"folder:{tmp_path}").decoding
    assert decoding.palette == {(1, 2, 3): 0}
    assert decoding.void == {255}


def test_255_may_be_a_class(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("id,name\n0,sky\n255,tree\n")
    assert open_dataset(f"folder:{tmp_path}").decoding.void == frozenset()


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("classes.csv", "id,name\n", ["at least one class"]),
        ("classes.csv", "id,name\nx,sky\n", ["class 1", "'x'"]),
        ("classes.csv", "id,name\n65535,sky\n", ["0..65534", "65535"]),
        ("classes.csv", "id,name\n0,sky\n0,tree\n", ["id", "0 twice"]),
        ("classes.csv", "id,name\n0,sky\n1,sky\n", ["name", "'sky' twice"]),
        ("classes.csv", "id,name,colour\n0,sky,#ff0000\n1,tree,#ff0000\n", ["colour", "(255, 0, 0) twice"]),
        ("classes.csv", "id,name,colour\n0,sky,red\n", ["class 1", "'red'", "#rrggbb"]),
        ("classes.csv", "id,name,colour\n0,sky,1 2 300\n", ["'1 2 300'"]),
        ("classes.csv", "id,name,viod\n0,sky,1\n", ["'viod'", "thing, thin, void"]),
        ("classes.csv", "id,name,thing\n0,sky,maybe\n", ["thing", "'maybe'"]),
        ("classes.csv", "id,name,colour\n0,sky,1,2,3\n", ["longer row"]),
        ("classes.csv", "id,name\n0,\n", ["a name"]),
        ("classes.yaml", "- {id: 0, name: no}", ["a name", "quotes"]),
        ("classes.yaml", "- {id: 0, name: sky, colour: #ff0000\n  }", ["None", "quotes"]),
        ("classes.yaml", "- {id: 0, name: [", ["YAML"]),
        ("classes.yaml", "- sky", ["class 1", "'sky'"]),
        ("classes.yaml", "", ["a list of classes"]),
        ("classes.yaml", "{classes: [{id: 0, name: sky}], metres: 1}", ["'metres'"]),
        ("classes.yaml", "{classes: [{id: 0, name: sky}], metres_per_unit: -1}", ["above 0", "-1"]),
        ("depth.yaml", "metres: 1", ["metres_per_unit"]),
        ("depth.yaml", "metres_per_unit: 0", ["above 0"]),
    ],
)
def test_a_class_file_that_cannot_be_used_is_refused_and_says_where(
    tmp_path: Path, file: str, text: str, words: list[str]
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"folder:{tmp_path}")
    assert all(word in str(caught.value) for word in [file, ";", *words]), str(caught.value)


def test_two_class_files_are_refused(tmp_path: Path) -> None:
    for file in ("classes.csv", "classes.yaml"):
        (tmp_path / file).write_text(CLASS_FILES[file])
    with pytest.raises(DatasetError, match=r"classes\.yaml and classes\.csv"):
        open_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("suffix", "setting", "metres"), [(".png", "", 2.0), (".npy", "", 2000.0), (".png", "metres_per_unit: 0.01", 20.0)]
)
def test_depth_is_millimetres_in_pictures_and_metres_in_arrays(
    tmp_path: Path, suffix: str, setting: str, metres: float
) -> None:
    pair(tmp_path, "a")
    depth = np.full(LABELS.shape, 2000, np.uint16)
    (tmp_path / "depths").mkdir()
    if suffix == ".npy":
        np.save(tmp_path / "depths/a.npy", depth.astype(np.float32))
    else:
        write(tmp_path / "depths/a.png", depth)
    if setting:
        (tmp_path / "depth.yaml").write_text(setting)
    dataset = open_dataset(f"folder:{tmp_path}")
    (ref,) = dataset.sources()
    assert np.allclose(dataset.decode(ref, dataset.read(ref)).depth, metres)


def test_depths_of_two_units_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        pair(tmp_path, name)
    write(tmp_path / "depths/a.png", LABELS)
    np.save(tmp_path / "depths/b.npy", LABELS)
    with pytest.raises(DatasetError, match=r"metres_per_unit into depth\.yaml"):
        open_dataset(f"folder:{tmp_path}").sources()


def test_the_licence_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    assert open_dataset(f"folder:{tmp_path}").licence is None
    (tmp_path / "LICENCE").write_text("\n# CC BY 4.0\nand more\n")
    assert open_dataset(f"folder:{tmp_path}").licence == "CC BY 4.0"


# NYU


def test_nyu_blocks_of_25_are_groups_and_every_sixth_block_tests(tmp_path: Path) -> None:
    for number in (0, 24, 25, 149, 150, 174, 175, 1199):
        pair(tmp_path, f"{number:04d}")
    found = {int(ref.name): (ref.split, ref.group) for ref in open_dataset(f"nyu:{tmp_path}").sources()}
    assert found == {
        0: ("test", "0"),
        24: ("test", "0"),
        25: ("train", "1"),
        149: ("train", "5"),
        150: ("test", "6"),
        174: ("test", "6"),
        175: ("train", "7"),
        1199: ("train", "47"),
    }


def test_nyu_reads_its_depth_in_metres_and_39_as_void(tmp_path: Path) -> None:
    pair(tmp_path, "0007", np.where(LABELS == 2, 39, LABELS).astype(np.uint8))
    write(tmp_path / "depths/0007.png", np.full(LABELS.shape, 51, np.uint8))
    dataset = open_dataset(f"nyu:{tmp_path}")
    (ref,) = dataset.sources()
    source = dataset.decode(ref, dataset.read(ref))
    assert np.allclose(source.depth, 2.0)
    assert source.layout.tolist() == [[0, 1, VOID], [VOID, 1, 0]]


def test_a_nyu_file_without_a_number_is_one_reject(tmp_path: Path) -> None:
    pair(tmp_path, "0007")
    pair(tmp_path, "kitchen")
    dataset = open_dataset(f"nyu:{tmp_path}")
    with pytest.raises(SourceError, match="'kitchen'") as caught:
        dataset.read(dataset.sources()[1])
    assert caught.value.reason == "unexpected-name"


MAT_NAMES = ["book", "wall", "night stand", "floor", "bed", "coffee maker"]


def write_mat(path: Path, n: int = 27, leave_out: str = "", **replaced: np.ndarray) -> dict[str, np.ndarray]:
    """A `.mat` file as MATLAB writes it (version 7.3: 512 bytes of header, axes reversed, names by reference).

    Returns what it holds in the usual order: images (n, H, W, 3), labels (n, H, W), depths (n, H, W).
    """
    random = np.random.default_rng(5)
    content = {
        "images": random.integers(0, 256, (n, 4, 6, 3), np.uint8),
        "labels": random.integers(0, len(MAT_NAMES) + 1, (n, 4, 6)).astype(np.uint16),
        "depths": random.uniform(0.7, 9.9, (n, 4, 6)).astype(np.float32),
    } | replaced
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, array in content.items():
            if key != leave_out:
                file[key] = np.swapaxes(array, 1, array.ndim - 1) if array.ndim == 4 else array.transpose(0, 2, 1)
        if leave_out != "names":
            references = file.create_group("#refs#")
            names = file.create_dataset("names", (1, len(MAT_NAMES)), h5py.ref_dtype)
            for number, name in enumerate(MAT_NAMES):
                references[str(number)] = np.frombuffer(name.encode("utf-16-le"), np.uint16)[:, None]
                names[0, number] = references[str(number)].ref
    return content


def test_the_official_mat_file_gives_what_it_holds(tmp_path: Path) -> None:
    content = write_mat(tmp_path / "nyu_depth_v2_labeled.mat")
    dataset = open_dataset(f"nyu:{tmp_path}")
    assert dataset.spec == open_dataset(f"nyu:{tmp_path}/nyu_depth_v2_labeled.mat").spec
    refs = dataset.sources()
    assert [ref.name for ref in refs] == [f"{number:04d}" for number in range(27)]
    assert [(refs[n].split, refs[n].group) for n in (0, 24, 25)] == [("test", "0"), ("test", "0"), ("train", "1")]
    for number in (0, 26):
        source = dataset.decode(refs[number], dataset.read(refs[number]))
        labels = content["labels"][number]
        assert np.array_equal(source.image, content["images"][number])
        assert np.array_equal(source.layout, np.where(labels == 0, np.uint16(VOID), labels))
        assert np.array_equal(source.depth, content["depths"][number])
        assert np.array_equal(dataset.survey(refs[number]), source.layout)


def test_the_mat_file_encodes_as_png_and_npy_the_same_every_time(tmp_path: Path) -> None:
    content = write_mat(tmp_path / "nyu_depth_v2_labeled.mat")
    dataset = open_dataset(f"nyu:{tmp_path}")
    ref = dataset.sources()[3]
    encoded: EncodedSource = dataset.read(ref)
    again = pickle.loads(pickle.dumps(dataset)).read(ref)
    assert encoded.source_id == again.source_id
    assert Image.open(io.BytesIO(encoded.image)).format == "PNG"
    assert Image.open(io.BytesIO(encoded.layout)).mode == "I;16"
    assert np.array_equal(np.load(io.BytesIO(encoded.depth)), content["depths"][3])


def test_a_name_of_the_mat_file_shares_the_id_of_the_forty_classes_in_a_bank(tmp_path: Path) -> None:
    write_mat(tmp_path / "nyu_depth_v2_labeled.mat")
    classes = open_dataset(f"nyu:{tmp_path}").decoding.classes
    assert [(entry.id, entry.name) for entry in classes] == list(enumerate(MAT_NAMES, 1))
    table, mapping = ClassTable().merged(NYU_CLASSES)[0].merged(classes)
    assert mapping[2] == table.named("wall").id == 0
    assert mapping[3] == table.named("night stand").id == 31
    assert mapping[6] == table.named("coffee maker").id > 38
    assert classes[4].thing
    assert not classes[1].thing


@pytest.mark.parametrize(
    ("leave_out", "found"), [("labels", "only depths, images, names"), ("names", "only depths, images, labels")]
)
def test_a_mat_file_that_lacks_an_array_is_refused(tmp_path: Path, leave_out: str, found: str) -> None:
    write_mat(tmp_path / "a.mat", leave_out=leave_out)
    with pytest.raises(DatasetError, match=found):
        open_dataset(f"nyu:{tmp_path}/a.mat").sources()


def test_a_mat_file_that_is_damaged_or_of_two_sizes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DatasetError, match="no readable HDF5"):
        open_dataset(f"nyu:{tmp_path}/a.mat").sources()
    write_mat(tmp_path / "b.mat", depths=np.ones((27, 4, 5), np.float32))
    with pytest.raises(DatasetError, match="arrays of shapes"):
        open_dataset(f"nyu:{tmp_path}/b.mat").sources()


def test_a_mat_file_may_lack_depth(tmp_path: Path) -> None:
    write_mat(tmp_path / "a.mat", leave_out="depths")
    dataset = open_dataset(f"nyu:{tmp_path}/a.mat")
    ref = dataset.sources()[0]
    assert dataset.decode(ref, dataset.read(ref)).depth is None


# CamVid


def frames(*numbers: int, sequence: str = "0016E5") -> list[str]:
    return [f"{sequence}_{number:05d}" for number in numbers]


def test_camvid_names_splits_and_groups_are_the_same_from_the_root_and_from_a_part(tmp_path: Path) -> None:
    clip = frames(*range(7959, 7959 + 44, 2))
    for name in ["0001TP_006690", "0006R0_f00930", "0016E5_00390"]:
        pair(tmp_path / "train", name)
    for name in clip:
        pair(tmp_path / "val", name)
    refs = open_dataset(f"camvid:{tmp_path}").sources()
    found = {ref.name: (ref.split, ref.group) for ref in refs}
    assert found["train/0001TP_006690"] == ("train", "0001TP")
    assert found["train/0006R0_f00930"] == ("test", "0006R0")
    assert found["train/0016E5_00390"] == ("train", "0016E5")
    trained = [name for name in clip if found[f"val/{name}"] == ("train", "0016E5")]
    assert trained == [clip[0], clip[10], clip[20]]
    assert Counter(split for split, _ in found.values()) == {"train": 5, "test": 1, "val": 19}
    for part in ("train", "val"):
        dataset = open_dataset(f"camvid:{tmp_path / part}")
        own = {ref.name: (ref.split, ref.group) for ref in dataset.sources()}
        assert own == {name: placed for name, placed in found.items() if name.startswith(part)}
        ref = dataset.sources()[0]
        assert dataset.read(ref) == open_dataset(f"camvid:{tmp_path}").read(next(r for r in refs if r.name == ref.name))


@pytest.mark.parametrize(
    ("images", "labels", "ending"),
    [("701_StillsRaw_full", "LabeledApproved_full", "_L"), ("images", "labels", "_L"), ("images", "labels", "")],
)
def test_the_original_camvid_palette_is_merged_to_eleven_classes(
    tmp_path: Path, images: str, labels: str, ending: str
) -> None:
    original = {
        (128, 128, 128): "sky",
        (0, 128, 64): "building",
        (192, 0, 128): "building",
        (0, 0, 64): "pole",
        (128, 0, 192): "road",
        (64, 192, 128): "pavement",
        (192, 192, 0): "tree",
        (0, 64, 64): "sign",
        (64, 64, 128): "fence",
        (192, 128, 192): "car",
        (192, 128, 64): "pedestrian",
        (192, 0, 192): "bicyclist",
        (0, 0, 0): None,
    }
    for name in ("0001TP_006690", "Seq05VD_f00000"):
        write(tmp_path / images / f"{name}.png", np.zeros((1, len(original), 3), np.uint8))
        write(tmp_path / labels / f"{name}{ending}.png", np.array([list(original)], np.uint8))
    dataset = open_dataset(f"camvid:{tmp_path}")
    refs = dataset.sources()
    assert [(ref.name, ref.split, ref.group) for ref in refs] == [
        ("0001TP_006690", "train", "0001TP"),
        ("Seq05VD_f00000", "train", "Seq05VD"),
    ]
    layout = dataset.decode(refs[0], dataset.read(refs[0])).layout
    by_id = {entry.id: entry.name for entry in dataset.decoding.classes} | {VOID: None}
    assert [by_id[id] for id in layout[0].tolist()] == list(original.values())


def test_the_original_camvid_folder_validates_on_the_same_clip(tmp_path: Path) -> None:
    clip = frames(*range(7959, 8160, 2))
    for name in [*clip, *frames(7920, 8190), *frames(8001, sequence="0001TP")]:
        for folder, ending in (("701_StillsRaw_full", ""), ("LabeledApproved_full", "_L")):
            path = tmp_path / folder / f"{name}{ending}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
    refs = open_dataset(f"camvid:{tmp_path}").sources()
    assert [ref.name for ref in refs if ref.split == "val"] == [name for i, name in enumerate(clip) if i % 10]


def test_a_camvid_part_without_label_maps_is_refused(tmp_path: Path) -> None:
    pair(tmp_path / "train", "0001TP_006690")
    write(tmp_path / "val/images/0016E5_07959.jpg", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DatasetError, match="no folder val/labels/"):
        open_dataset(f"camvid:{tmp_path}").sources()


def test_the_class_tables_are_whole() -> None:
    assert [entry.name for entry in CAMVID_CLASSES] == (
        ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    )
    assert len(PALETTE) == 32
    assert len(NYU_CLASSES) == 39
    for classes in (CAMVID_CLASSES, NYU_CLASSES):
        assert len({entry.colour for entry in classes}) == len(classes)
        assert [entry.id for entry in classes] == list(range(len(classes)))


# the data sets themselves


class TestRealData:
    pytestmark = realdata

    def test_nyu_is_listed_whole(self) -> None:
        dataset = NyuFolder(DATA / "nyu")
        refs = dataset.sources()
        assert len(refs) == len(list((DATA / "nyu/images").iterdir())) == 1200
        assert all(ref.image and ref.layout and ref.depth for ref in refs)
        assert dataset.ignored() == ()
        test = {f"{n:04d}" for n in range(1200) if n % 150 < 25}
        assert {ref.name for ref in refs if ref.split == "test"} == test
        assert len({ref.group for ref in refs}) == 48
        source = dataset.decode(refs[17], dataset.read(refs[17]))
        assert source.image.shape == (480, 640, 3)
        assert 0.5 < np.median(source.depth) < 10

    def test_nyu_classes_are_those_of_its_readme(self) -> None:
        text = (DATA / "README.md").read_text().split("NYU class ids, from 0:")[1].split("\n\n")[0]
        listed = [" ".join(name.split()) for name in text.strip(" .\n").split(",")]
        assert [entry.name for entry in NYU_CLASSES] == listed[:39]

    def test_camvid_is_listed_whole(self) -> None:
        refs = CamVid(DATA / "camvid").sources()
        assert len(refs) == 367 + 101
        train = [path.stem for path in (DATA / "camvid/train/images").iterdir()]
        clip = sorted(path.stem for path in (DATA / "camvid/val/images").iterdir())
        test = sum(stem.startswith("0006R0") for stem in train)
        moved = len(clip[::10])
        assert Counter(ref.split for ref in refs) == {
            "test": test,
            "train": len(train) - test + moved,
            "val": len(clip) - moved,
        }
        assert {ref.group for ref in refs if ref.split == "test"} == {"0006R0"}
        assert test == 101

    def test_camvid_frames_in_one_folder_are_split_the_same(self, tmp_path: Path) -> None:
        for part in ("train", "val"):
            for folder in ("images", "labels"):
                for path in (DATA / "camvid" / part / folder).iterdir():
                    (tmp_path / folder).mkdir(exist_ok=True)
                    (tmp_path / folder / path.name).symlink_to(path)
        flat = {ref.name: ref.split for ref in CamVid(tmp_path).sources()}
        assert flat == {ref.name.split("/")[1]: ref.split for ref in CamVid(DATA / "camvid").sources()}


def test_opening_a_folder_of_nothing_known_asks_for_the_mat_file_too(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nyu_depth_v2_labeled\.mat"):
        open_dataset(f"nyu:{tmp_path}").sources()
    assert isinstance(open_dataset(f"nyu:{tmp_path}"), NyuFolder)
    write_mat(tmp_path / "nyu_depth_v2_labeled.mat", n=1)
    assert isinstance(open_dataset(f"nyu:{tmp_path}"), NyuMat)
