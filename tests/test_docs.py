"""The documentation is true: its links and pictures exist, its commands parse, its examples run."""

import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from tests.pipelines.region_models import save_region_models
from tests.pipelines.tiny_models import save_models

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ABSOLUTE = re.compile(r"(?<![\w.)\]}/:*<-])/(?:home|root|work|tmp|mnt|data|usr|opt|var|srv|etc|Users)\b|\b[A-Z]:\\")
REGISTRIES = re.compile(
    r"pypi\.|pythonhosted|anaconda\.org|conda\.io|index-url|jfrog|artifactory|/simple\b", re.IGNORECASE
)
LARGEST_PICTURE = 350_000  # bytes

page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block, and of every indented one, whose language is empty."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*fenced, *(("", block) for block in re.findall(r"(?:^ {4}.*\n)+", rest, re.MULTILINE))]


def commands(text: str) -> list[list[str]]:
    """The words of every `zeuxis ...` in a block or between back-ticks."""
    lines = [line.strip() for _, block in blocks(text) for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`(zeuxis [^`\n]*)`", text)
    return [shlex.split(line, comments=True) for line in lines if re.match(r"(\S*/)?zeuxis ", line)]


def options_named(text: str) -> set[str]:
    """Every `--option` that stands between back-ticks without its command."""
    return set(re.findall(r"(?<!`)`(--[a-z-]+)", text))


def parser() -> Any:
    from zeuxis.cli import app

    return typer.main.get_command(app)


def fault(words: list[str]) -> str:
    """Why a command line does not parse, empty if it does; nothing is run. A bare command is a mention."""
    commands = parser().commands
    if words[1] not in commands:
        return f"there is no command {words[1]}"
    if len(words) == 2:
        return ""
    try:
        commands[words[1]].make_context(words[1], words[2:])
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the parser's own
            raise
        return str(error.format_message())
    return ""


@page
def test_links_and_pictures_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path = page.parent / target.partition("#")[0]
            assert path.exists(), f"{page.name} refers to {target}"
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    assert picture.width <= 1400, target
                assert path.stat().st_size < LARGEST_PICTURE, target


@page
def test_commands_parse(page):
    for words in commands(page.read_text()):
        assert not fault(words), f"{page.name}: {' '.join(words)}"


@pytest.mark.parametrize(
    "line", ["zeuxis paint A", "zeuxis info A --quick", "zeuxis collage A.png", "zeuxis retrieve A.png -k few"]
)
def test_a_wrong_command_line_is_noticed(line):
    assert fault(shlex.split(line))


@page
def test_options_named_in_the_text_exist(page):
    known = {
        option
        for command in parser().commands.values()
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert options_named(page.read_text()) <= known


def test_the_readme_shows_every_command():
    shown = {words[1] for words in commands((ROOT / "README.md").read_text())}
    text = (ROOT / "README.md").read_text()
    assert {"check", "rebuild", "info", "verify", "retrieve", "collage", "scenes"} <= shown
    assert set(parser().commands) <= set(re.findall(r"\w+", text))


@page
def test_no_absolute_paths_and_no_package_registries(page):
    text = page.read_text()
    assert not ABSOLUTE.findall(text)
    assert not REGISTRIES.findall(text)


def test_the_python_example_runs(photos, rebuild_bank, tmp_path, monkeypatch):
    example, painting = (code for language, code in blocks((ROOT / "README.md").read_text()) if language == "python")
    depth = np.full((48, 64), 2000, np.uint16)
    photos.add("a", "b", "c", depth=depth)
    rebuild_bank(photos.spec, tmp_path / "BANK")
    monkeypatch.chdir(tmp_path)
    for written, here in {"nyu/12": "folder/b", "nyu/0300": "folder/c"}.items():
        assert written in example
        example = example.replace(written, here)
    names = {"layout": photos.label("a"), "source": "folder/a", "layouts": [photos.label("a")]}
    names |= {"box": (4, 4, 40, 40), "mask": np.ones((48, 64), bool)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(example, "README.md", "exec"), names)
    assert len(names["result"]) >= 4
    assert all(component.hits for component in names["result"])
    assert Path("collage.png").is_file()
    save_models(tmp_path / "MODELS", tmp_path / "BANK", "synthesis", "transform", "ordering", "key-patches")
    save_region_models(tmp_path / "MODELS", tmp_path / "BANK")
    exec(compile(painting, "README.md", "exec"), names)
    assert len(names["liked"].images) == 9
    assert names["painted"].image.shape == (96, 128, 3)
    assert names["made"].image.shape == (64, 64, 3)
    assert len(names["made"].places) == 2


def test_the_class_file_of_the_docs_is_read(photos):
    from zeuxis.ingest.datasets.classfile import read_class_file

    fenced = dict(blocks((ROOT / "docs/datasets.md").read_text()))
    photos.root.mkdir()
    for suffix in ("csv", "yaml"):
        path = photos.root / f"classes.{suffix}"
        path.write_text(fenced[suffix])
        classes = read_class_file(path)
        assert [each.name for each in classes.classes] == ["road", "car", "pole"]
        assert classes.void == {255}
        assert classes.palette is not None
        assert [each.thin for each in classes.classes] == [False, False, True]
    assert classes.metres_per_unit == 0.001


def test_the_class_map_of_the_docs_is_taken(photos, rebuild_bank, tmp_path):
    import zeuxis

    fenced = dict(blocks((ROOT / "docs/bank.md").read_text()))
    (tmp_path / "map.yaml").write_text(fenced["yaml"].replace("camvid", "folder"))
    (photos.root).mkdir()
    (photos.root / "classes.csv").write_text("id,name\n0,sky\n1,pedestrian\n2,fence\n3,car\n")
    photos.add("a", "b")
    rebuild_bank(photos.spec, classes=tmp_path / "map.yaml")
    assert {each.name for each in zeuxis.open(tmp_path / "bank").classes} == {"sky", "person", "car"}
