"""What a path of a data set must not hold: a program to run, or somebody's credentials."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ...storage.errors import DatasetError, sentence

PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "http": "aiohttp", "https": "aiohttp", "hf": "huggingface_hub",
}  # fmt: skip
"""Protocol to the package that fsspec needs for it; `file` and `memory` need none."""
PROTOCOLS = ("file", "local", "memory", *PACKAGES)

URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
_SECRET = re.compile(r"(key|token|secret|signature|password|passwd|credential|auth|sig|policy)", re.IGNORECASE)


def check_url(path: str) -> None:
    """Refuses what must not be opened; other paths pass, whether there is anything or not.

    Raises:
        DatasetError: a `pipe:` URL, which runs a program; a chain of protocols (`a::b`); a protocol that is not known
            to be safe, or whose package is missing; a URL with a user's name, password, key or signature in it.
    """
    if path.startswith("pipe:"):
        raise DatasetError(
            sentence("pipe:", expected="files", found="a program to run", fix="run it first and give what it wrote")
        )
    match = URL.match(path)
    if match is None:
        return
    protocol, where = match[1].lower(), public(path)
    if match[2] == "::" or "::" in path:
        raise DatasetError(sentence(where, expected="one protocol", found="a chain of them", fix="unpack it first"))
    if protocol not in PROTOCOLS:
        raise DatasetError(sentence(where, expected=f"one of {', '.join(PROTOCOLS)}", found=protocol))
    if has_secret(path):
        raise DatasetError(
            sentence(
                where,
                expected="a URL without user name, password, key or signature",
                found="one that has them",
                fix="put them where fsspec looks: in the environment, or in ~/.config/fsspec",
            )
        )
    check_package(protocol, where)


def check_package(protocol: str, where: str) -> None:
    """Refuses a protocol whose package is not installed.

    Raises:
        DatasetError: it is missing.
    """
    from importlib.util import find_spec

    package = PACKAGES.get(protocol)
    if package and find_spec(package) is None:
        raise DatasetError(
            sentence(where, f"{protocol}:// needs the package {package}", fix=f"run pip install {package}")
        )


def has_secret(url: str) -> bool:
    """Whether a URL brings credentials along: `user:password@`, or a key or signature in its query."""
    parts = _split(url)
    return parts is None or "@" in parts.netloc or any(map(_SECRET.search, dict(parse_qsl(parts.query, True))))


def public(url: str) -> str:
    """A URL as it may stand in messages and in a bank: without user name, password, query and fragment."""
    parts = _split(url)
    if parts is None:
        return url.partition("://")[0] + "://…"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # a host in brackets that is no IPv6 address
        return None
