"""Reads depth maps from HDF5 files in a process apart, which may crash or hang without harm.

The HDF5 library is known to crash on damaged files, and a night has no use for a worker that dies of one picture. The
child is started with the first such file and lives as long as this process; it costs a copy of the file and its map.
"""

from __future__ import annotations

import atexit
import os
import select
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

_START_S = 60.0
_ANSWER_S = 4.0  # and what reading many bytes takes
_BYTES_A_SECOND = 20e6


class Crashed(Exception):
    """The child died of the file, or took too long over it."""


def read_hdf5(data: bytes, max_pixels: int) -> bytes:
    """The depth map of an HDF5 file as a `.npy` file, or behind a `!` one word and what was wrong (see `hdf5_child`).

    Raises:
        Crashed: the HDF5 library died of the file, or took too long over it.
    """
    with _LOCK:
        if _CHILD.owner != os.getpid():  # a fork must not talk to the child of its parent
            _CHILD.process, _CHILD.owner = None, os.getpid()
        try:
            return _CHILD.ask(struct.pack("<QQ", max_pixels, len(data)) + data)
        except (OSError, Crashed) as error:
            _CHILD.stop()
            raise Crashed("one over which the HDF5 library dies or hangs") from error


@dataclass
class _Child:
    process: subprocess.Popen[bytes] | None = None
    owner: int = field(default_factory=os.getpid)

    def ask(self, request: bytes) -> bytes:
        """Sends a request and waits for its answer.

        Raises:
            Crashed, OSError: there is none in time, or the child is gone.
        """
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-P", str(Path(__file__).with_name("hdf5_child.py"))]
            quiet, one_thread = subprocess.DEVNULL, os.environ | {"OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, env=one_thread
            )
            self._read(1, _START_S)
        assert self.process.stdin
        view = memoryview(request)
        while view:
            view = view[self.process.stdin.write(view) :]
        until = _ANSWER_S + len(request) / _BYTES_A_SECOND
        (length,) = struct.unpack("<Q", self._read(8, until))
        return self._read(length, until)

    def stop(self) -> None:
        """Ends the child; the next request starts another."""
        if self.process:
            self.process.kill()
            self.process.communicate()
        self.process = None

    def _read(self, length: int, seconds: float) -> bytes:
        assert self.process
        assert self.process.stdout
        ready, until = select.poll(), time.monotonic() + seconds
        ready.register(self.process.stdout, select.POLLIN)
        parts = bytearray()
        while len(parts) < length:
            if not ready.poll(max(0.0, until - time.monotonic()) * 1000):
                raise Crashed("no answer in time")
            part = self.process.stdout.read(min(length - len(parts), 1 << 20))
            if not part:
                raise Crashed("the child is gone")
            parts += part
        return bytes(parts)


def _at_exit() -> None:
    if _CHILD.owner == os.getpid():
        _CHILD.stop()


_LOCK = threading.Lock()
_CHILD = _Child()
atexit.register(_at_exit)
