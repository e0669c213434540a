"""Brings images' data to the host that uploads them, and verifies them: one file an image, which goes afterwards.

Progress is written to a file that a person may follow, because a module says nothing until it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, describe
from ansible_collections.brume.cloud.plugins.module_utils.images import GLANCE_ALGORITHM, Data

BLOCK = 1024 * 1024
"""Bytes that are read at a time."""

SILENCE = 60
"""Seconds that a server of images may stay silent."""

PROGRESS = "progress"
"""File of the folder with one line for each image that is on its way."""

PROGRESS_SECONDS = 2.0

ALGORITHMS = ("sha256", "sha512")


@dataclass
class Progress:
    """Keeps a file with how far each image is; several threads may tell at once."""

    path: str
    lines: dict[str, str] = field(default_factory=dict)
    written: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, name: str, what: str, done: int = 0, whole: int = 0) -> None:
        """Say what is done for an image; `done` of `whole` bytes, 0 where that is not known. Nothing ends a line."""
        share = f" {done // BLOCK} of {whole // BLOCK} MiB" if whole else f" {done // BLOCK} MiB" if done else ""
        with self.lock:
            known = self.lines.get(name, "")
            self.lines[name] = f"{name}: {what}{share}\n" if what else ""
            # A file that can be followed, thus never replaced; a step that begins is told at once.
            if done and known and time.monotonic() - self.written < PROGRESS_SECONDS:
                return
            self.written = time.monotonic()
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(self.lines[name])


def prepare(folder: str) -> None:
    """Make the folder anew: what an interrupted run has left there goes. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    os.makedirs(folder, mode=0o700)


class Counted:
    """A file as requests sends it, with its length, noting how much of it was read."""

    def __init__(self, stream: BinaryIO, note: Callable[[int, int], None]) -> None:
        """Take an open file, and what is called with the bytes read and the file's length."""
        self.stream, self.note = stream, note
        self.length, self.done = os.fstat(stream.fileno()).st_size, 0

    def __len__(self) -> int:
        """Return the file's length in bytes."""
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        """Yield the content; what cannot be iterated is not sent as a stream."""
        while block := self.read(BLOCK):
            yield block

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        block = self.stream.read(size)
        self.done += len(block)
        self.note(self.done, self.length)
        return block


@contextlib.contextmanager
def obtained(
    item: Mapping[str, Any], folder: str, files: Mapping[str, str], progress: Progress
) -> Iterator[Data]:
    """Give an image's verified data; `files` are those that were brought to this host already, by name of image.

    Raises ConvergenceError for data that are not those of the checksum, and OSError, as urllib's errors are.
    """
    name = item["name"]
    algorithm, _colon, wanted = item["checksum"].partition(":")
    path = files.get(name, "")
    try:
        if not path:
            progress.tell(name, "fetching")
            handle, path = tempfile.mkstemp(dir=folder)
            os.close(handle)
            _download(item["url"], path, lambda done, whole: progress.tell(name, "fetched", done, whole))
        progress.tell(name, "verifying")
        found = digests(path, {algorithm, GLANCE_ALGORITHM})
        if found[algorithm] != wanted:
            raise ConvergenceError(
                f"{item.get('url') or item.get('path')} has the {algorithm} {found[algorithm]}, not the declared "
                f"{wanted}; correct `checksum` if the publisher confirms the other one, or the source"
            )
        yield Data(path, found[GLANCE_ALGORITHM])
        progress.tell(name, "done")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _download(url: str, path: str, tell: Callable[[int, int], None]) -> None:
    """Fetch a file; what does not fit is refused before it fills the disk. Raises OSError and ConvergenceError."""
    if not url.startswith(("https://", "http://")):
        raise ConvergenceError(f"{url} is no address of a web server")
    try:
        with urllib.request.urlopen(url, timeout=SILENCE) as answer, open(path, "wb") as stream:  # noqa: S310  # above
            whole, done = int(answer.headers.get("Content-Length") or 0), 0
            free = shutil.disk_usage(os.path.dirname(path)).free
            if whole > free:
                raise ConvergenceError(
                    f"{url} has {whole // BLOCK} MiB, and {os.path.dirname(path)} has {free // BLOCK} MiB free"
                )
            while block := answer.read(BLOCK):
                stream.write(block)
                done += len(block)
                tell(done, whole)
            if whole and done != whole:
                raise ConvergenceError(f"{url} ended after {done} of {whole} bytes; run again")
    except OSError as error:
        raise ConvergenceError(f"cannot fetch {url}: {describe(error)}") from error


def digests(path: str, algorithms: Iterable[str]) -> dict[str, str]:
    """Return the hexadecimal digests of a file. Raises OSError."""
    found = {name: hashlib.new(name) for name in algorithms}
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            for one in found.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in found.items()}
