"""The package as it is installed: public names, links, wheel contents, import time, no generic names."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import zeuxis
from zeuxis.storage import installation
from zeuxis.storage.errors import InstallationError

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("ingest", "index", "synth", "pipelines", "storage")


def test_the_public_names_are_these():
    assert sorted(zeuxis.__all__) == [
        *("Bank", "Component", "Explanation", "Generator", "Hit", "Retrieval", "Similar", "VOID", "ZeuxisError"),
        *("agreement", "assemble", "check", "collage", "collect", "compile", "demo", "evaluate", "evaluate_inpaint"),
        *("evaluate_key_patches", "evaluate_region_semantics", "explain", "forget"),
        *("generations", "generator", "info", "inpaint", "like", "merge_hits"),
        *("open", "paint", "rebuild", "repair", "retrieve", "rollback", "scenes", "similar"),
        *("synthesize", "train", "verify"),
    ]
    for name in zeuxis.__all__:
        assert getattr(zeuxis, name) is not None
    assert zeuxis.__version__ == metadata.version("zeuxis")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = zeuxis.no_such_name


def test_every_part_is_a_relative_link():
    for part in PARTS:
        link = ROOT / "zeuxis" / part
        assert link.is_symlink()
        assert link.readlink() == Path("..") / part
        assert (link / "__init__.py").is_file()


def test_generic_names_are_never_imported():
    code = (
        "import sys, zeuxis\n"
        "for name in zeuxis.__all__: getattr(zeuxis, name)\n"
        f"print([name for name in {PARTS} if name in sys.modules])"
    )
    assert run(code) == "[]"


def test_import_is_quick_and_imports_nothing_heavy():
    heavy = (
        *("torch", "dask", "distributed", "matplotlib", "numba", "pandas", "pyarrow", "cv2", "scipy"),
        *("faiss", "sqlglot"),
    )
    code = (
        "import sys, time; start = time.process_time(); import zeuxis; seconds = time.process_time() - start\n"
        f"print(seconds < 0.3, [name for name in {heavy} if name in sys.modules])"
    )
    assert run(code) == "True []"


def test_opening_a_bank_imports_neither_torch_nor_dask_nor_matplotlib():
    code = (
        "import sys, zeuxis; zeuxis.Bank, zeuxis.retrieve, zeuxis.collage\n"
        "print([name for name in ('torch', 'dask', 'distributed', 'matplotlib') if name in sys.modules])"
    )
    assert run(code) == "[]"


def test_the_wheel_holds_every_module_once(tmp_path):
    copy = tmp_path / "copy"  # setuptools leaves a build folder behind
    for name in (*PARTS, "zeuxis"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    wheels = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run([*wheels, copy], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    expected = [f"zeuxis/{path.relative_to(ROOT)}" for part in PARTS for path in (ROOT / part).rglob("*.py")]
    expected += [f"zeuxis/{path.name}" for path in (ROOT / "zeuxis").glob("*.py")]
    assert sorted(names) == sorted(expected)
    assert "zeuxis/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_two_wheels_of_one_module_are_named(monkeypatch):
    monkeypatch.setattr(installation, "_installed", lambda name: name in ("faiss-cpu", "faiss-gpu"))
    with pytest.raises(InstallationError, match="faiss-cpu and faiss-gpu side by side") as caught:
        installation.check_installation()
    assert "\n" not in str(caught.value)


def test_this_installation_is_sound():
    installation.check_installation()


def test_imports_point_down_only():
    """zeuxis > pipelines > ingest, index, synth > storage; never sideways between the three."""
    may = {
        "storage": set(),
        "ingest": {"storage"},
        "index": {"storage"},
        "synth": {"storage"},
        "pipelines": {"storage", "ingest", "index", "synth"},
    }
    for part, below in may.items():
        for path in (ROOT / part).rglob("*.py"):
            for line in path.read_text().splitlines():
                words = line.strip().split()
                if words[:1] == ["from"] and words[1].startswith(".."):
                    target = words[1].lstrip(".").split(".")[0]
                    up = len(words[1]) - len(words[1].lstrip("."))
                    depth = len(path.relative_to(ROOT).parts)
                    if up == depth:
                        assert target in below, f"{path.relative_to(ROOT)}: {line.strip()}"


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.strip()


def test_without_faiss_nothing_is_begun(monkeypatch):
    monkeypatch.setattr("zeuxis.storage.installation.find_spec", lambda _: None)
    with pytest.raises(InstallationError, match="module faiss: expected one of its wheels, found none"):
        zeuxis.rebuild("folder:nowhere", "nowhere")
