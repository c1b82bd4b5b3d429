"""The command line as it is called: exit codes, one sentence an error, nothing written where a command refuses."""

from __future__ import annotations

import csv
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from tests.zeuxis.command import Ran, called
from zeuxis import cli
from zeuxis.storage import files
from zeuxis.storage.manifest import generations

COMMANDS = (
    *("check", "rebuild", "datasets", "info", "generations", "rollback", "collect", "verify", "repair", "forget"),
    *("orderings", "retrieve", "explain", "similar", "collage", "train", "paint", "scenes", "demo"),
)


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `main` as the installed script does; whatever it does not map to an exit code fails the test."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.delenv("ZEUXIS_BANK", raising=False)

    def call(*arguments: object) -> Ran:
        ran = called(monkeypatch, capsys, *arguments)
        assert "\x1b" not in ran.out + "".join(ran.errors), "colour codes where there is no terminal"
        return ran

    return call


@pytest.fixture
def bank(photos: Any, rebuild_bank: Callable[..., Any], tmp_path: Path) -> Path:
    """A bank of three photographs."""
    photos.add("a", "b", "c")
    rebuild_bank(photos.spec, frame=(48, 64))
    return tmp_path / "bank"


@pytest.fixture
def layout(photos: Any, bank: Path) -> Path:
    """The label map of one of them: its own segments fit it best."""
    path: Path = photos.label("a")
    return path


def shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, **options)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from zeuxis.cli import main; main()", *map(str, arguments)]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, but for the lock, which any writer leaves."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "WRITER.lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def refused(ran: Ran, *words: str, code: int = 2) -> None:
    assert ran.code == code, ran
    assert ran.out == ""
    assert len(ran.errors) == 1, ran.errors
    assert ran.errors[0].startswith("zeuxis: ")
    for word in words:
        assert word in ran.errors[0], ran.errors[0]


# ---- what the commands say when all is well


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_explains_every_argument(name: str, run: Run):
    ran = run(name, "--help")
    assert ran.code == 0
    assert f"Usage: zeuxis {name}" in ran.out
    assert "None" not in ran.out
    group: Any = typer.main.get_command(cli.app)
    for parameter in group.commands[name].params:
        assert parameter.help, parameter.name


def test_help_lists_the_commands_without_cutting_what_they_do(run: Run):
    ran = run("--help")
    assert ran.code == 0
    assert all(f"\n  {name} " in ran.out for name in COMMANDS)
    assert "..." not in ran.out.split("Commands:")[1]
    assert run() == ran


def test_check_exits_with_0_for_a_sound_data_set_and_3_for_problems(photos: Any, run: Run):
    photos.add("a", "b")
    ran = run("check", photos.spec)
    assert (ran.code, ran.errors) == (0, [])
    assert "sources: 2 (2 usable" in ran.out
    photos.label("b").unlink()
    ran = run("check", photos.spec)
    assert ran.code == 3
    assert "missing-label" in ran.out
    assert f"{photos.image('b')}: expected a label map of the same name" in ran.out, "cut or folded"


def test_rebuild_exits_with_0_then_3_when_a_source_is_rejected(
    photos: Any, dask_address: str, tmp_path: Path, run: Run
):
    photos.add("a", "b")
    arguments = ("rebuild", "--dataset", photos.spec, "--bank", tmp_path / "bank", "--no-patches")
    arguments += ("--scheduler", dask_address, "--frame", "48x64", "--min-area", "16")
    ran = run(*arguments)
    assert ran.code == 0, ran.errors
    assert "generation 1 published" in ran.out
    assert "2 sources = 2 new + 0 unchanged + 0 rejected" in ran.out
    ran = run(*arguments)
    assert ran.code == 0
    assert "nothing changed, nothing published" in ran.out
    photos.add("c")
    photos.image("c").write_bytes(photos.image("c").read_bytes()[:500])
    ran = run(*arguments)
    assert ran.code == 3
    assert "3 sources = 0 new + 2 unchanged + 1 rejected" in ran.out
    assert "rejects: unreadable-image 1" in ran.out
    assert str(photos.image("c")) in ran.out


def test_retrieve_prints_whole_lines_and_saves_picture_and_table(bank: Path, layout: Path, tmp_path: Path, run: Run):
    figure, table = tmp_path / "out.png", tmp_path / "out.csv"
    ran = run("retrieve", layout, "--bank", bank, "-k", 2, "--figure", figure, "--csv", table)
    assert (ran.code, ran.errors) == (0, [])
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows[0]["source"] == "folder/a"
    assert float(rows[0]["score"]) == pytest.approx(2.0)
    assert {row["rank"] for row in rows} == {"0", "1"}
    for row in rows:
        assert any(row["segment"] in line and row["source"] in line for line in ran.out.splitlines())
    with Image.open(figure) as picture:
        assert picture.width > 200


def test_retrieve_takes_the_bank_from_the_environment(bank: Path, layout: Path, run: Run, monkeypatch: Any):
    monkeypatch.setenv("ZEUXIS_BANK", str(bank))
    assert run("retrieve", layout, "-k", 1).code == 0
    monkeypatch.setenv("ZEUXIS_BANK", str(layout.parent))
    refused(run("retrieve", layout), str(layout.parent), "expected a bank")
    assert run("retrieve", layout, "-k", 1, "--bank", bank).code == 0


def test_where_and_exclude_narrow_the_hits(bank: Path, layout: Path, run: Run):
    kept = run("retrieve", layout, "--bank", bank, "--where", "source=folder/b", "--where", "source=folder/c")
    assert kept.code == 0
    assert "folder/b" in kept.out
    assert "folder/a" not in kept.out
    left = run("retrieve", layout, "--bank", bank, "--exclude", "folder/a", "--exclude", "folder/b")
    assert left.code == 0
    assert "folder/c" in left.out
    assert "folder/a" not in left.out
    assert "folder/b" not in left.out


def test_a_layout_of_another_aspect_ratio_is_answered_with_a_warning(
    bank: Path, layout: Path, tmp_path: Path, run: Run
):
    wide = tmp_path / "wide.png"
    with Image.open(layout) as picture:
        picture.crop((0, 0, 64, 30)).save(wide)
    ran = run("retrieve", wide, "--bank", bank)
    assert ran.code == 0
    assert ran.errors == [
        "warning: layout of 30x64: has another aspect ratio than the bank's frame of 48x64 and was stretched to it"
    ]
    assert "folder/a" in ran.out


def test_collage_names_the_files_it_wrote(bank: Path, layout: Path, tmp_path: Path, run: Run):
    ran = run("collage", layout, "--bank", bank, "--out", tmp_path / "made.png")
    assert (ran.code, ran.errors) == (0, [])
    named = [Path(line) for line in ran.out.splitlines()]
    assert named[0] == tmp_path / "made.png"
    assert {path.name for path in named} == {path.name for path in tmp_path.glob("made.*")}
    with Image.open(named[0]) as picture:
        assert picture.size == (64, 48)


def test_scenes_prints_what_rebuild_takes(tmp_path: Path, run: Run):
    ran = run("scenes", tmp_path / "s", "--count", 2, "--size", "64x80")
    assert (ran.code, ran.errors, ran.out) == (0, [], f"scenes:{tmp_path / 's'}\n")
    assert run("check", ran.out.strip()).code == 0


def test_names_with_brackets_and_other_scripts_come_through(
    photos: Any, rebuild_bank: Callable[..., Any], tmp_path: Path, run: Run
):
    names = ("[bold]x", "x[/]", "a b", "ü日本", "-k")
    photos.add(*names)
    rebuild_bank(photos.spec, frame=(48, 64))
    ran = run("retrieve", photos.label("x[/]"), "--bank", tmp_path / "bank", "-k", 9)
    assert (ran.code, ran.errors) == (0, [])
    for name in names:
        assert f"folder/{name}" in ran.out
    assert run("check", photos.spec).code == 0


def test_a_name_with_a_newline_is_a_problem_that_is_shown_escaped(photos: Any, run: Run):
    photos.add("a", "b\nc")
    ran = run("check", photos.spec)
    assert ran.code == 3
    assert "unreadable-name" in ran.out
    assert "b\\nc" in ran.out


# ---- what is refused


LAYOUTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "missing": (None, ("cannot be read",)),
    "fake": (b"hello", ("expected a picture", "b'hell'")),
    "empty": (b"", ("an empty file",)),
    "void": (np.full((48, 64), 255, np.uint8), ("nothing but void",)),
    "beyond": (np.full((48, 64), 99999 // 400, np.uint16) * 100, ("unknown ids 24900",)),
    "colours": (np.full((48, 64, 3), 77, np.uint8), ("unknown colours (77, 77, 77)",)),
    "huge": (Image.new("1", (20000, 20000)), ("at most 134,217,728 pixels",)),
}


@pytest.mark.parametrize("case", LAYOUTS)
@pytest.mark.parametrize("name", ["retrieve", "collage"])
def test_layouts_that_cannot_be_used_are_named(name: str, case: str, bank: Path, tmp_path: Path, run: Run):
    content, words = LAYOUTS[case]
    path = tmp_path / f"{case}.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        (content if isinstance(content, Image.Image) else Image.fromarray(content)).save(path)
    before = tree(tmp_path)
    out = ("--out", tmp_path / "o.png") if name == "collage" else ("--figure", tmp_path / "o.png")
    refused(run(name, path, "--bank", bank, *out), str(path), *words)
    assert tree(tmp_path) == before


def test_a_layout_cut_short_and_a_folder_are_refused(bank: Path, layout: Path, tmp_path: Path, run: Run):
    cut = tmp_path / "cut.png"
    cut.write_bytes(layout.read_bytes()[:-40])
    refused(run("retrieve", cut, "--bank", bank), str(cut), "cannot be decoded")
    (tmp_path / "none").mkdir()
    refused(run("retrieve", tmp_path / "none", "--bank", bank), "expected pictures of layouts")
    refused(run("collage", tmp_path, "--bank", bank, "--out", tmp_path / "x.png"), str(tmp_path), "Is a directory")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-k", "0"), ("k: expected a whole number of at least 1, found 0",)),
        (("-k", "-3"), ("found -3",)),
        (("-k", "many"), ("'-k'", "`zeuxis retrieve --help`")),
        (("--where", "class_name"), ("expected column=value",)),
        (("--where", "nosuch=1"), ("'nosuch'", "class_name")),
        (("--where", "area=big"), ("'area'", "int32", "big")),
        (("--exclude", "nobody"), ("'nobody'", "a source or a group")),
        (("--weights", "0", "0"), ("weights", "not both 0")),
        (("--weights", "nan", "1"), ("weights",)),
        (("--weights", "1e308", "1e308"), ("weights",)),
        (("--weights", "1"), ("--weights", "2 arguments")),
        (("--dataset", "nyu"), ("'nyu'", "folder")),
        (("--nonsense",), ("--nonsense", "`zeuxis retrieve --help`")),
    ],
)
def test_arguments_of_retrieve_that_make_no_sense(
    arguments: tuple[str, ...], words: tuple[str, ...], bank: Path, layout: Path, run: Run
):
    refused(run("retrieve", layout, "--bank", bank, *arguments), *words)


@pytest.mark.parametrize("option", ["--figure", "--csv", "--out"])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("none/x.png", ("there is no folder",)),
        ("folder.png", ("is a folder",)),
        (f"{'x' * 300}.png", ("File name too long",)),
    ],
)
def test_places_that_cannot_be_written_are_refused_and_nothing_else_is_written(
    option: str, place: str, words: tuple[str, ...], bank: Path, layout: Path, tmp_path: Path, run: Run
):
    if option == "--csv":
        place = place.replace(".png", ".csv")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.csv").mkdir()
    before = tree(tmp_path)
    ran = run("collage" if option == "--out" else "retrieve", layout, "--bank", bank, option, tmp_path / place)
    refused(ran, str(tmp_path / place), *words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("command", "option"), [("retrieve", "--figure"), ("explain", "--out"), ("collage", "--out")])
def test_a_layout_a_link_and_a_device_are_never_written_over(
    command: str, option: str, bank: Path, layout: Path, tmp_path: Path, run: Run
):
    before, out = layout.read_bytes(), tmp_path / "out"
    out.mkdir()
    (out / "link.png").symlink_to(out / "elsewhere.png")
    os.mkfifo(out / "pipe.png")
    refused(run(command, layout, "--bank", bank, option, layout), str(layout), "would be written over")
    for name in ("link.png", "pipe.png"):
        refused(run(command, layout, "--bank", bank, option, out / name), name, "is a link or a device")
    assert layout.read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["link.png", "pipe.png"]


def test_a_table_of_an_unknown_kind_is_refused(bank: Path, layout: Path, run: Run):
    refused(run("retrieve", layout, "--bank", bank, "--out", "hits.xlsx"), "hits.xlsx", ".parquet or .csv", "'.xlsx'")


@pytest.mark.parametrize("option", ["--figure", "--out"])
@pytest.mark.parametrize("name", ["x.gif", "x", "x."])
def test_pictures_of_an_unknown_kind_are_refused(option: str, name: str, bank: Path, layout: Path, run: Run):
    refused(run("collage" if option == "--out" else "retrieve", layout, "--bank", bank, option, name), name, ".png")


def test_a_table_that_cannot_be_written_leaves_no_figure_behind(bank: Path, layout: Path, tmp_path: Path, run: Run):
    figure = tmp_path / "figure.png"
    refused(run("retrieve", layout, "--bank", bank, "--figure", figure, "--csv", tmp_path / "none/x.csv"), "x.csv")
    assert not figure.exists()


@pytest.mark.parametrize(
    "frame", ["0x0", "abc", "1e9x5", "-5x10", "96", "96x", "9x9x9", "²x9", "٣x٣", "9" * 5000 + "x9"]
)
def test_frames_that_make_no_sense_make_no_bank(frame: str, photos: Any, tmp_path: Path, run: Run):
    photos.add("a")
    ran = run("rebuild", "--dataset", photos.spec, "--bank", tmp_path / "new", "--frame", frame)
    refused(ran, "frame: expected")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nosuch:{}", ("'nosuch'", "folder")),
        ("folder", ("no colon",)),
        ("folder:", ("no path",)),
        ("folder:{}/nowhere", ("no such file or folder",)),
        ("folder:{}", ("an empty folder",)),
        ("nyu:{}", ("images/",)),
        ("camvid:{}", ("train/",)),
        ("scenes:{}", ("scenes.json",)),
    ],
)
@pytest.mark.parametrize("name", ["check", "rebuild"])
def test_data_sets_that_cannot_be_read_are_refused(
    name: str, spec: str, words: tuple[str, ...], tmp_path: Path, run: Run
):
    empty = tmp_path / "empty"
    empty.mkdir()
    spec = spec.format(empty)
    arguments = (spec,) if name == "check" else ("--dataset", spec, "--bank", tmp_path / "new")
    refused(run(name, *arguments), *words)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments", [("--count", "0"), ("--seed", "-1"), ("--size", "1x1"), ("--size", "100000x100000"), ("--size", "x")]
)
def test_numbers_of_which_scenes_can_make_nothing(arguments: tuple[str, ...], tmp_path: Path, run: Run):
    refused(run("scenes", tmp_path / "s", *arguments), arguments[0].strip("-"), "expected")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "words"), [(("bogus",), ("bogus",)), (("check",), ("KIND:PATH", "zeuxis check"))]
)
def test_the_parser_too_refuses_in_one_sentence(arguments: tuple[str, ...], words: tuple[str, ...], run: Run):
    refused(run(*arguments), *words, "--help`")


@pytest.mark.parametrize("words", [("--out", ""), ("--out=",), ("--seed", "3", "")], ids=str)
def test_an_empty_word_is_not_taken_for_the_folder_one_is_in(
    words: tuple[str, ...], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    refused(run("demo", *words), "expected a value, found nothing", "variable")
    assert not list(tmp_path.iterdir())


# ---- banks that cannot be used


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 3 * 2):
        data[at] ^= 0xFF
    path.write_bytes(data)


def newer(path: Path) -> None:
    path.write_text(re.sub(r'"schema": \d+', '"schema": 99', path.read_text()))


def altered(path: Path) -> None:
    path.write_text(path.read_text().replace('"min_area": 16', '"min_area": 17'))


DAMAGE = [
    ("MANIFEST-000001.json", cut, "is not readable JSON"),
    ("MANIFEST-000001.json", newer, "schema 99"),
    ("MANIFEST-000001.json", altered, "SHA-256"),
    ("shards/*/footprints.safetensors", cut, "expected"),
    ("shards/*/footprints.safetensors", flip, "CRC32C"),
    ("shards/*/footprints.safetensors", Path.unlink, "found no file"),
    ("shards/*/segments.parquet", cut, "expected"),
    ("shards/*/segments.parquet", flip, "CRC32C"),
    ("shards/*/sources.parquet", Path.unlink, "found no file"),
    ("shards/*/blobs/data.mdb", cut, "expected"),
    ("shards/*/blobs/data.mdb", flip, "CRC32C"),
    ("shards/*/blobs/data.mdb", Path.unlink, "found no file"),
]


@pytest.mark.parametrize(
    ("pattern", "damage", "words"), DAMAGE, ids=[f"{name.split('/')[-1]}-{how.__name__}" for name, how, _ in DAMAGE]
)
def test_a_damaged_file_is_named_by_what_reads_it_and_by_verify(
    pattern: str, damage: Callable[[Path], None], words: str, bank: Path, layout: Path, tmp_path: Path, run: Run
):
    path = next(bank.glob(pattern))
    damage(path)
    code = 2 if damage is newer else 1  # of a newer zeuxis: nothing is broken
    arguments = ("collage", layout, "--bank", bank, "--out", tmp_path / "made.png")  # reads every kind of file
    if path.suffix in (".mdb", ".safetensors") and path.exists():  # mapped: those can end a process
        made = shell(*arguments)
        refused(Ran(made.returncode, made.stdout, made.stderr.splitlines()), str(path), words, code=1)
    else:
        refused(run(*arguments), str(path), words, code=code)
    assert not list(tmp_path.glob("made*"))
    ran = run("verify", bank)
    if path.name.startswith("MANIFEST"):
        refused(ran, str(path), words, code=code)
        refused(run("info", bank), str(path), words, code=code)
    else:
        assert ran.code == 1
        assert len(ran.errors) == 1
        assert str(path) in ran.errors[0]
        assert "1 damaged" in ran.out


def test_a_sound_bank_is_verified(bank: Path, run: Run):
    ran = run("verify", bank, "--deep")
    assert (ran.code, ran.errors) == (0, [])
    assert "all as published" in ran.out


@pytest.mark.parametrize("name", ["info", "verify", "retrieve", "collage"])
def test_a_folder_that_is_no_bank_is_named(name: str, layout: Path, tmp_path: Path, run: Run):
    folder = tmp_path / "nobank"
    folder.mkdir()
    arguments = {
        "retrieve": ("retrieve", layout, "--bank"),
        "collage": ("collage", layout, "--out", tmp_path / "o.png", "--bank"),
    }.get(name, (name,))
    refused(run(*arguments, folder), str(folder), "expected a bank", "zeuxis rebuild")
    refused(run(*arguments, folder / "none"), str(folder / "none"), "no such folder")


def test_rebuild_into_a_folder_of_other_things_leaves_it_alone(photos: Any, tmp_path: Path, run: Run):
    photos.add("a")
    before = tree(photos.root)
    refused(run("rebuild", "--dataset", photos.spec, "--bank", photos.root), str(photos.root), "a bank or an empty")
    assert tree(photos.root) == before


def test_a_bank_that_is_being_written_can_be_read_but_not_rebuilt(photos: Any, bank: Path, layout: Path, run: Run):
    photos.add("d")
    with files.writer_lock(bank):
        refused(run("rebuild", "--dataset", photos.spec, "--bank", bank), str(bank), "is being written by process")
        assert run("retrieve", layout, "--bank", bank).code == 0
    assert generations(bank) == [1]


def test_a_bank_that_cannot_be_written_is_read_and_a_rebuild_is_refused(
    photos: Any, bank: Path, layout: Path, run: Run
):
    if os.access("/", os.W_OK):
        pytest.skip("needs a user to whom permissions apply")
    for path in (bank, *bank.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert run("info", bank).code == 0
        assert run("verify", "--deep", bank).code == 0
        assert run("retrieve", layout, "--bank", bank).code == 0
        refused(run("rebuild", "--dataset", photos.spec, "--bank", bank), str(bank), "cannot be written")
    finally:
        for path in (bank, *bank.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)


# ---- processes of their own


def test_the_second_retrieve_from_the_shell_takes_two_seconds_or_little_more_than_its_libraries(
    bank: Path, layout: Path
):
    libraries = [sys.executable, "-c", "import cv2, numba, pyarrow.parquet, rich.console, scipy.linalg, typer"]
    shell("retrieve", layout, "--bank", bank)
    taken, bare = [], []
    while len(taken) < 4 and not (taken and min(taken) < max(2, 2.5 * min(bare))):  # others may use the machine
        taken.append(seconds_of(command("retrieve", layout, "--bank", bank)))
        bare.append(seconds_of(libraries))
    assert min(taken) < max(2, 2.5 * min(bare))


def seconds_of(arguments: list[str]) -> float:
    """Processor time of a command, which waits for nobody."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_closed_pipe_ends_the_command_without_a_word(bank: Path, layout: Path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ran = subprocess.run(
            command("retrieve", layout, "--bank", bank), stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_output_is_one_sentence(bank: Path):
    with open("/dev/full", "w") as full:
        ran = subprocess.run(command("info", bank), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr == "zeuxis: output: cannot be used (No space left on device)\n"


def test_characters_that_the_output_cannot_hold_do_not_end_the_command(bank: Path):
    ran = shell("info", bank, env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\\u2588" in ran.stdout


def test_ctrl_c_stops_a_rebuild_in_one_line_and_the_next_run_goes_on(tmp_path: Path, photos: Any):
    photos.add(*(f"{number:03}" for number in range(60)))
    bank = tmp_path / "bank"
    arguments = ("rebuild", "--dataset", photos.spec, "--bank", bank, "--workers", 1, "--shard-size", 1)
    arguments += ("--no-patches", "--frame", "48x64")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests that run in the background ignore it
    with subprocess.Popen(command(*arguments), start_new_session=True, preexec_fn=heeding, **pipes) as process:
        deadline = time.monotonic() + 60
        while not finished_shards(bank) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    *progress, said = err.splitlines()
    assert said == "interrupted; run the same command again to go on"
    assert all(" sources " in line for line in progress), err  # on a slow machine
    assert generations(bank) == []
    done = {path: path.stat().st_mtime_ns for path in finished_shards(bank)}
    assert 0 < len(done) < 60
    ran = shell(*arguments)
    assert ran.returncode == 0
    assert generations(bank) == [1]
    assert all(path.stat().st_mtime_ns == changed for path, changed in done.items()), "finished shards were made anew"


def finished_shards(bank: Path) -> list[Path]:
    return [path for path in bank.glob("shards/*") if not path.name.startswith(".")]


def test_an_interrupt_anywhere_is_one_line_and_130(layout: Path, bank: Path, run: Run, monkeypatch: Any):
    async def answer() -> None:
        """What a call that waits for a worker holds."""

    def interrupt(*_: Any, **__: Any) -> None:
        answer()
        raise KeyboardInterrupt

    monkeypatch.setattr("zeuxis.calls.retrieve", interrupt)
    ran = run("retrieve", layout, "--bank", bank)
    assert (ran.code, ran.out, len(ran.errors)) == (130, "", 1)


def test_memory_that_runs_out_is_one_sentence(layout: Path, bank: Path, run: Run, monkeypatch: Any):
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError("112 GiB")

    monkeypatch.setattr("zeuxis.calls.retrieve", full)
    refused(run("retrieve", layout, "--bank", bank), "memory", "112 GiB", code=1)


def test_memory_of_a_gpu_that_runs_out_is_one_sentence(layout: Path, bank: Path, run: Run, monkeypatch: Any):
    import torch

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity")

    monkeypatch.setattr("zeuxis.calls.retrieve", full)
    refused(run("retrieve", layout, "--bank", bank), "GPU", "CUDA out of memory", code=1)


def test_a_bank_may_be_moved(bank: Path, layout: Path, tmp_path: Path, run: Run):
    before = run("retrieve", layout, "--bank", bank)
    shutil.move(bank, tmp_path / "elsewhere")
    assert run("retrieve", layout, "--bank", tmp_path / "elsewhere") == before


def test_a_link_in_a_circle_and_a_pipe_are_left_out(photos: Any, run: Run):
    photos.add("a", "b")
    (photos.root / "images/loop.png").symlink_to("loop.png")
    os.mkfifo(photos.root / "images/pipe.png")
    ran = run("check", photos.spec)
    assert ran.code == 3
    assert "loop.png is left out" in ran.out or "loop.png: is left out" in ran.out
    assert "pipe.png" in ran.out
    assert "2 usable" in ran.out


def test_a_log_is_never_appended_to_another_kind_of_file(photos: Any, tmp_path: Path, run: Run):
    photos.add("a", "b")
    before = photos.image("a").read_bytes()
    ran = run("rebuild", "--dataset", photos.spec, "--bank", tmp_path / "bank", "--log", photos.image("a"))
    refused(ran, str(photos.image("a")))
    assert photos.image("a").read_bytes() == before
    assert not (tmp_path / "bank").exists()


def test_a_log_on_the_standard_output_has_it_to_itself_and_a_plan_leaves_the_metrics(
    photos: Any, tmp_path: Path, run: Run
):
    photos.add("a", "b")
    metrics = tmp_path / "night.prom"
    night = ("rebuild", "--dataset", photos.spec, "--bank", tmp_path / "bank", "--workers", "0", "--no-patches")
    ran = run(*night, "--log", "-", "--metrics", metrics)
    assert (ran.code, ran.out) == (0, ""), "the log is written past Python's own standard output"
    before = metrics.read_bytes()
    ran = run(*night, "--plan", "--metrics", metrics, "--log", "-")
    assert (ran.code, ran.out) == (0, "")
    assert metrics.read_bytes() == before
    for arguments in ((*night, "--log", tmp_path / "bank/log.jsonl"), ("scenes", tmp_path / "bank/scenes")):
        refused(run(*arguments), f"lies in the bank {tmp_path / 'bank'}")
