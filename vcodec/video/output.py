"""Files that appear under their name only when they are finished."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

from vcodec.errors import VcodecError


class PartialFile:
    """Written beside its place as NAME.part and renamed by `finish`; `discard` leaves nothing behind.

    Devices and named pipes are written directly.

    Raises:
        VcodecError: the folder is missing or can't be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._direct = self.path.exists() and not self.path.is_file()
        self.part = self.path if self._direct else self.path.with_name(self.path.name + ".part")
        if self.path.is_dir():
            raise VcodecError(f"{path}: is a folder")
        check_parent(self.path)

    def open(self) -> BinaryIO:
        try:
            return self.part.open("wb")
        except OSError as error:
            raise VcodecError(f"{self.path}: can't be written: {error.strerror}") from error

    def finish(self) -> None:
        if not self._direct:
            self.part.replace(self.path)

    def discard(self) -> None:
        if not self._direct:
            self.part.unlink(missing_ok=True)


class PartialFolder:
    """A folder of numbered files, filled beside its place as NAME.part; an existing folder must be empty.

    Raises:
        VcodecError: the folder's parent is missing, it holds something, or it can't be written to.
    """

    FILE = re.compile(r"\d{6,}\.png")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.part = self.path.with_name(self.path.name + ".part")
        check_parent(self.path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise VcodecError(f"{path}: exists and is no empty folder; name another one or empty it")
        try:
            if self.part.is_dir():  # of a run that was killed
                self.discard()
            self.part.mkdir()
        except OSError as error:
            raise VcodecError(f"{path}: can't be made: {error.strerror}") from error

    def finish(self) -> None:
        if not self.path.exists():
            self.part.rename(self.path)
            return
        for file in sorted(self.part.iterdir()):
            file.replace(self.path / file.name)
        self.part.rmdir()

    def discard(self) -> None:
        if self.part.is_dir() and all(self.FILE.fullmatch(file.name) for file in self.part.iterdir()):
            shutil.rmtree(self.part)


def check_parent(path: Path) -> None:
    """Raises VcodecError if the folder that `path` is to stand in is missing."""
    if not path.parent.is_dir():
        raise VcodecError(f"{path}: the folder {path.parent} does not exist; make it first")


def standard_output() -> BinaryIO:
    """Raises VcodecError if it is a terminal."""
    if sys.stdout.isatty():
        raise VcodecError("standard output is a terminal: send it through a pipe or give the name of a file")
    return sys.stdout.buffer
