"""Whether the installation itself can work."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

from .errors import InstallationError, sentence

_RIVALS = {
    "cv2": ("opencv-contrib-python-headless", "opencv-contrib-python", "opencv-python-headless", "opencv-python"),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu12"),
}
"""Wheels that install the same module and overwrite each other."""


def check_installation() -> None:
    """Raises InstallationError where faiss is missing, or two wheels of one module are installed side by side."""
    if find_spec("faiss") is None:
        raise InstallationError(
            sentence("module faiss", expected="one of its wheels", found="none", fix="run `pip install faiss-cpu`")
        )
    for module, names in _RIVALS.items():
        found = [name for name in names if _installed(name)]
        if len(found) > 1:
            raise InstallationError(
                sentence(
                    f"module {module}",
                    expected=f"one of its wheels, such as {names[0]}",
                    found=" and ".join(found) + " side by side",
                    fix=f"run `pip uninstall {' '.join(found)}`, then `pip install {found[0]}`",
                )
            )


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
