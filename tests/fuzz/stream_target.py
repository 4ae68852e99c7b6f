"""What must hold for any bytes at all that are read as a stream; AssertionError where it doesn't.

fuzz_stream.py hands over what a fuzzer thinks of, test_corpus.py the inputs that are worth keeping.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from vcodec.bitstream import Damage, Packet, StreamHeader, StreamReader, StreamWriter
from vcodec.bitstream_reader import MAX_LOST_FRAMES
from vcodec.bitstream_syntax import Cursor, read_header, write_header
from vcodec.errors import VcodecError


class Found(NamedTuple):
    """A stream's header, if it can be read, its items with their frames' numbers, and whether all of it was read."""

    header: StreamHeader | None
    items: list[tuple[int, Packet | Damage]]
    complete: bool


def check_stream(data: bytes) -> None:
    """Reads the bytes in every way, once as they are and once with all checksums taken for right."""
    check_every_way(data)
    with checksums_ignored():
        check_every_way(data)


def check_every_way(data: bytes) -> None:
    """From a file and a pipe, patiently and strictly, from any frame on, after an interruption: the same packets."""
    found = read(io.BytesIO(data))
    damaged = any(isinstance(item, Damage) for _, item in found.items)
    assert found.complete == (found.header is not None), "only a header may be beyond reading"
    assert read(Pipe(data)) == found
    strict = read(io.BytesIO(data), strict=True)
    assert strict.items == undamaged(found)
    assert strict.complete == (found.complete and not damaged)
    if found.header is not None:
        assert read_header(Cursor.over(write_header(found.header))) == found.header
        for frame in (frames_of(found) // 2, frames_of(found)):
            check_seeking(data, found, frame)
    if strict.header is not None:
        check_resuming(data, strict)


def read(file: Any, strict: bool = False, seek: int | None = None) -> Found:
    """Everything that reading gives, seen to be in order."""
    header, items = None, []
    end = lost = whole = 0
    try:
        reader = StreamReader(file, strict=strict)
        header = reader.header
        frame = 0 if seek is None else reader.seek(seek)
        for item in reader:
            assert reader.frame == frame, "a frame is missing or comes twice"
            assert reader.packet_offset >= end, "packets overlap"
            frame += item.count if isinstance(item, Damage) else 1
            end = reader.packet_offset + reader.packet_bytes
            whole += isinstance(item, Packet)
            lost += item.count if isinstance(item, Damage) else 0
            items.append((reader.frame, item))
    except VcodecError:
        return Found(header, items, False)
    assert seek or lost <= max(MAX_LOST_FRAMES, whole), "more frames are said to be lost than are believed"
    return Found(header, items, True)


def frames_of(found: Found) -> int:
    return sum(item.count if isinstance(item, Damage) else 1 for _, item in found.items)


def undamaged(found: Found) -> list[tuple[int, Packet | Damage]]:
    """What comes before the first damage."""
    first = next((k for k, (_, item) in enumerate(found.items) if isinstance(item, Damage)), None)
    return found.items[:first]


def check_seeking(data: bytes, found: Found, frame: int) -> None:
    """By scanning, the rest from some I-frame or damage on; by an index, which may be false, anything in order."""
    scanned = read(Pipe(data), seek=frame)
    assert scanned.complete == (frame < frames_of(found))
    if scanned.complete:
        assert scanned.items == found.items[-len(scanned.items) :]
        assert scanned.items[0][0] <= frame
    read(io.BytesIO(data), seek=frame)


def check_resuming(data: bytes, strict: Found) -> None:
    """A writer that goes on after an interruption keeps whole GOPs, as they are, and nothing else."""
    assert strict.header is not None
    file = io.BytesIO(data)
    writer = StreamWriter.resume(file, strict.header)
    assert data.startswith(file.getvalue())
    assert len(file.getvalue()) == writer.bytes_written
    assert read(io.BytesIO(file.getvalue())).items[:-1] == strict.items[: writer.frame_count]


@contextmanager
def checksums_ignored() -> Iterator[None]:
    """A fuzzer can't guess a CRC-32; without them it gets to everything that stands behind one."""
    verify = Cursor.verify
    Cursor.verify = lambda self, _: self.take(4)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Cursor.verify = verify  # type: ignore[method-assign]


class Pipe(io.RawIOBase):
    """Hands over some bytes at a time and can't seek."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(61)
