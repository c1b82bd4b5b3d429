"""Data sets behind fsspec URLs: in memory, over HTTP by ranges; what is refused, and what is kept secret."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import published_more as published

from zeuxis.ingest.datasets import open_dataset
from zeuxis.ingest.datasets.files import open_root
from zeuxis.ingest.datasets.images import Images
from zeuxis.ingest.datasets.parquet import open_parquet
from zeuxis.ingest.datasets.remote import check_url, has_secret, public
from zeuxis.ingest.datasets.tarshards import open_tar
from zeuxis.storage.errors import DatasetError, SourceError


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """The memory file system of this process, emptied afterwards."""
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/bucket", recursive=True)


def upload(files: fsspec.AbstractFileSystem, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/bucket/{path.relative_to(folder).as_posix()}", path.read_bytes())


class Ranges(SimpleHTTPRequestHandler):
    """Files with range requests; counts the bytes sent by range, and the requests for a whole file."""

    sent = whole = 0

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        first, last = (int(asked[1]), int(asked[2] or len(data) - 1)) if asked else (0, len(data) - 1)
        part = data[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{os.stat(path).st_mtime_ns}"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
        self.end_headers()
        Ranges.sent += len(part) if asked else 0
        Ranges.whole += not asked
        with suppress(ConnectionError):  # one who only asks whether a file is there hangs up
            self.wfile.write(part)

    def do_HEAD(self) -> None:
        status = os.stat(self.translate_path(self.path)) if os.path.isfile(self.translate_path(self.path)) else None
        self.send_response(200 if status else 404)
        if status:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(status.st_size))
            self.send_header("ETag", f'"{status.st_mtime_ns}"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an HTTP server for `tmp_path`."""
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        Ranges.sent = Ranges.whole = 0
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


# the same by URL and by path


def test_a_folder_in_memory_is_read_as_on_disk(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    for name in ("train/a", "val/b"):
        published.put(tmp_path / f"images/{name}.jpg", published.photograph(len(name)))
        published.put(tmp_path / f"labels/{name}.png", published.things_and_stuff())
    published.put(tmp_path / "classes.csv", "id,name\n0,person\n2,car\n156,sky\n168,tree\n")
    upload(memory, tmp_path)
    there, here = open_dataset("folder:memory://bucket"), open_dataset(f"folder:{tmp_path}")
    assert [ref.name for ref in there.sources()] == [ref.name for ref in here.sources()] == ["train/a", "val/b"]
    assert there.decoding == here.decoding
    for one, other in zip(there.sources(), here.sources(), strict=True):
        assert there.read(one) == here.read(other)
        assert there.stamp(one) == one.stamp != ""


def test_images_in_memory_are_read_as_on_disk(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    published.put(tmp_path / "a/b.jpg", published.photograph(1))
    upload(memory, tmp_path)
    dataset = Images("memory://bucket")
    (ref,) = dataset.sources()
    assert dataset.read(ref).image == (tmp_path / "a/b.jpg").read_bytes()


@pytest.mark.parametrize("path", ["", "/train-{000000..000001}.tar", "/train-*.tar", "/train-000000.tar"])
def test_shards_in_memory_are_read_as_on_disk(tmp_path: Path, memory: fsspec.AbstractFileSystem, path: str) -> None:
    upload(memory, published.shards(tmp_path))
    there, here = open_tar(f"memory://bucket{path}"), open_tar(f"{tmp_path}{path}")
    assert [ref.name for ref in there.sources()] == [ref.name for ref in here.sources()]
    for one, other in zip(there.sources(), here.sources(), strict=True):
        assert there.read(one) == here.read(other)


def test_parquet_in_memory_is_read_as_on_disk(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    published.parquet(tmp_path / "train.parquet", published.table(3))
    upload(memory, tmp_path)
    there, here = open_parquet("memory://bucket"), open_parquet(tmp_path)
    for one, other in zip(there.sources(), here.sources(), strict=True):
        assert (one.name, there.read(one)) == (other.name, here.read(other))


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    published.shards(tmp_path)
    assert [ref.name for ref in open_tar(f"file://{tmp_path}").sources()] == [
        ref.name for ref in open_tar(tmp_path).sources()
    ]


# over HTTP


def test_a_tar_over_http_is_read_by_ranges(tmp_path: Path, server: str) -> None:
    path = tmp_path / "x.tar"
    more = {f"{number:03d}": published.sample(number, txt=b"0" * 1_000_000) for number in range(3)}
    path.write_bytes(published.tar_of(more))
    there, here = open_tar(f"{server}/x.tar"), open_tar(path)
    refs = there.sources()
    assert [ref.name for ref in refs] == [ref.name for ref in here.sources()] == ["000", "001", "002"]
    assert Ranges.sent < path.stat().st_size / 2
    Ranges.sent = 0
    assert there.read(refs[1]) == here.read(here.sources()[1])
    assert Ranges.sent < 300_000
    assert Ranges.whole <= 2  # whether it is there, and a file


def test_shards_over_http_are_named_by_braces(tmp_path: Path, server: str) -> None:
    published.shards(tmp_path)
    assert len(open_tar(f"{server}/train-{{000000..000001}}.tar").sources()) == 4
    with pytest.raises(DatasetError, match=r"no train-000002\.tar"):
        open_tar(f"{server}/train-{{000000..000002}}.tar").sources()


def test_a_shard_that_changes_on_its_server_is_noticed(tmp_path: Path, server: str) -> None:
    published.shards(tmp_path, count=1)
    dataset = open_tar(f"{server}/train-000000.tar")
    ref = dataset.sources()[0]
    dataset.read(ref)
    os.utime(tmp_path / "train-000000.tar", ns=(1, 1))
    with pytest.raises(SourceError) as caught:
        dataset.read(ref)
    assert caught.value.reason == "changed"


def test_parquet_over_http_is_read_by_ranges(tmp_path: Path, server: str) -> None:
    columns = {"noise": list(np.random.default_rng(1).integers(0, 1 << 60, (4, 60_000)))}
    path = published.parquet(tmp_path / "x.parquet", published.table(4, **columns))
    there, here = open_parquet(f"{server}/x.parquet"), open_parquet(path)
    refs = there.sources()
    assert there.read(refs[3]) == here.read(here.sources()[3])
    assert Ranges.sent < path.stat().st_size / 2
    assert Ranges.whole <= 2  # whether it is there, and a file


# refused, and secret


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("pipe:cat x", ["a program to run"]),
        ("pipe:curl https://me:pw@host/x.tar", ["a program to run"]),
        ("tar://a::https://host/b.tar", ["a chain"]),
        ("simplecache::s3://bucket/x", ["a chain"]),
        ("ssh://host/x", ["one of file, local, memory"]),
        ("https://me:hunter2@host/x.tar", ["without user name", "https://host/x.tar"]),
        ("https://host/x.tar?X-Amz-Signature=hunter2", ["without user name", "https://host/x.tar"]),
        ("https://host/x.tar?sv=1&sig=hunter2", ["without user name"]),
        ("s3://hunter2:hunter2@bucket/x.tar", ["without user name", "s3://bucket/x.tar"]),
        ("https://[hunter2/x.tar", ["https://"]),
    ],
)
def test_urls_that_run_programs_or_bring_credentials_are_refused(url: str, words: list[str]) -> None:
    for open_it in (open_tar, open_parquet, check_url):
        with pytest.raises(DatasetError) as caught:
            open_it(url)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert "pw@" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("https", "aiohttp")])
def test_a_protocol_whose_package_is_missing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, protocol: str, package: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DatasetError) as caught:
        check_url(f"{protocol}://bucket/x.tar")
    assert str(caught.value) == (
        f"{protocol}://bucket/x.tar: {protocol}:// needs the package {package}; run pip install {package}"
    )


def test_what_is_public_of_a_url() -> None:
    assert public("https://me:pw@host:8/a/b.tar?token=x#y") == "https://host:8/a/b.tar"
    assert not has_secret("s3://bucket/keys/train-{0..9}.tar")
    check_url("/plain/path/with@sign")
    check_url("memory://bucket/x")


def test_a_plain_path_stays_a_path(tmp_path: Path) -> None:
    assert open_root(tmp_path) == tmp_path.resolve()
    with pytest.raises(DatasetError):
        open_root("pipe:cat x")
