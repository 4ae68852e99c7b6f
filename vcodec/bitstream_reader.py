"""A .vcb stream into packets, whatever has happened to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from vcodec.bitstream_syntax import (
    MAX_END_BYTES,
    SYNC,
    TRAILER,
    TRAILER_MAGIC,
    Cursor,
    DamagedError,
    EndRecord,
    IFrame,
    Previous,
    TruncatedError,
    expected_pts,
    read_header,
    read_pframe,
    read_synchronised,
)
from vcodec.bitstream_types import Damage, Packet, StreamHeader
from vcodec.errors import VcodecError

READ_SIZE = 1 << 16
MAX_LOST_FRAMES = 1 << 16
"""More lost frames than this and than whole ones are not believed: someone has to show pictures for them."""
WASTE_ALLOWED = 1 << 20
"""Bytes that may be read in vain, besides four times those that were read so far."""


class Unit(NamedTuple):
    """A packet or a damage, and where it stands in the stream."""

    item: Packet | Damage
    frame: int
    offset: int
    size: int


class StreamReader:
    """Iterates over the packets of a stream, once; what can't be read comes as `Damage`.

    Args:
        file: open for reading bytes, at the stream's beginning; a pipe will do.
        strict: raise VcodecError in place of any Damage.

    Attributes:
        header: of the stream; if that is damaged, as the first whole I-frame repeats it.
        frame: number of the frame that came last.
        packet_offset, packet_bytes: where its packet begins in the stream, and its size with framing.

    Raises:
        VcodecError: this is no stream, or one of another version, or nothing of it can be read.
    """

    def __init__(self, file: BinaryIO, *, strict: bool = False) -> None:
        self.name = str(getattr(file, "name", None) or "the stream")
        self.frame = -1
        self.packet_offset = self.packet_bytes = 0
        self._strict = strict
        self._input = _Input(file)
        self._header: StreamHeader | None = None
        self._next_frame = 0
        self._previous: Previous | None = None
        self._lost = 0
        self._wasted = 0
        self._kept: deque[Unit] = deque()
        self._units = self._read()
        self._read_header()

    @property
    def header(self) -> StreamHeader:
        assert self._header is not None
        return self._header

    @property
    def frame_count(self) -> int | None:
        """Of a finished file the true number of frames, otherwise what the header announces, or None."""
        end = self._read_trailer()
        return end.frame_count if end else self.header.frame_count

    @property
    def pts_step(self) -> int:
        """The usual distance of two frames in units of the time base, at least 1."""
        return self.header.pts_step

    def __iter__(self) -> Iterator[Packet | Damage]:
        return self

    def __next__(self) -> Packet | Damage:
        unit = self._kept.popleft() if self._kept else next(self._units)
        self.frame, self.packet_offset, self.packet_bytes = unit.frame, unit.offset, unit.size
        return unit.item

    def seek(self, frame: int) -> int:
        """Go to the last I-frame at or before `frame`, by the index or by looking for it; returns its number.

        To be called before the first packet is read. Where that I-frame is lost, Damage comes first.

        Raises:
            VcodecError: the stream ends before that frame.
        """
        if end := self._read_trailer():
            starts = [(start, offset) for start, offset in end.iframes.items() if start <= frame]
            if starts:
                self._enter_at(*max(starts))
        reached = -1
        for unit in self._units:
            if isinstance(unit.item, Packet):
                if unit.item.frame_type == "I":
                    self._kept.clear()
                reached = unit.frame
            else:
                reached = unit.frame + unit.item.count - 1
            self._kept.append(unit)
            if reached >= frame:
                return self._kept[0].frame
        raise VcodecError(f"{self.name}: there is no frame {frame}: it ends after {reached + 1} frames")

    def _enter_at(self, frame: int, offset: int) -> None:
        """Go on reading at an I-frame that the index lists, if it is there."""
        here = self._input.offset
        self._input.move_to(offset)
        try:
            found = read_synchronised(Cursor(self._input.take), self.header)
        except DamagedError:
            found = None
        if not isinstance(found, IFrame) or found.frame != frame:
            self._input.move_to(here)
        else:
            self._next_frame = frame

    def _read_trailer(self) -> EndRecord | None:
        """The end record of a file, wherever reading stands; None of a pipe or an unfinished stream."""
        data = self._input.last_bytes(TRAILER.size)
        length, magic = TRAILER.unpack(data) if len(data) == TRAILER.size else (0, b"")
        if magic != TRAILER_MAGIC or length > MAX_END_BYTES:
            return None
        try:
            end = read_synchronised(Cursor.over(self._input.last_bytes(length + TRAILER.size)), self.header)
        except DamagedError:
            return None
        if not isinstance(end, EndRecord) or any(at >= self._input.length for at in end.iframes.values()):
            return None
        return end

    def _read_header(self) -> None:
        cursor = Cursor(self._input.take)
        try:
            self._header = read_header(cursor)
            self._input.drop(cursor.position)
        except VcodecError as error:
            raise VcodecError(f"{self.name}: {error}") from error
        except DamagedError as error:
            reason = f"the sequence header is damaged ({error})"
            # The next whole I-frame brings the header along, and reading begins there.
            found, _ = (None, 0) if self._strict else self._synchronise(start=0)
            if not isinstance(found, IFrame):
                raise VcodecError(f"{self.name}: {reason}") from error
            self._header = found.header
            self._units = self._read(reason)

    # --- One unit after another ---

    def _read(self, reason: str = "") -> Iterator[Unit]:
        """All units from here on; a `reason` tells why frames before the first of them are lost."""
        found: IFrame | EndRecord | Packet | None
        while True:
            try:
                found, size = self._read_unit()
            except DamagedError as error:
                found, size = self._synchronise(start=1)
                cut_off = isinstance(error, TruncatedError)
                reason = "a packet has a wrong length" if cut_off and found else str(error)
            frame = self._next_frame
            if isinstance(found, IFrame):
                frame = found.frame
            elif isinstance(found, EndRecord):
                frame = found.frame_count
            if reason or frame > self._next_frame:
                yield self._damage(frame, reason or "packets are missing")
                reason = ""
            if found is None or isinstance(found, EndRecord):
                return
            packet = found.packet if isinstance(found, IFrame) else found
            unit = Unit(packet, frame, self._input.offset, size)
            self._input.drop(size)
            self._previous = Previous(frame, packet.pts, packet.quality)
            self._next_frame = frame + 1
            yield unit

    def _damage(self, next_frame: int, reason: str) -> Unit:
        frame = self._next_frame
        pts = expected_pts(self.header, self._previous) if self._previous else self.header.frame_time(frame)
        lost = Damage(frame, next_frame - frame, reason, pts)
        self._lost += lost.count
        if self._strict:
            raise VcodecError(f"{self.name}: frame {frame}: {reason}")
        return Unit(lost, frame, self._input.offset, 0)

    def _read_unit(self) -> tuple[IFrame | EndRecord | Packet, int]:
        """What begins here, and its size."""
        cursor = Cursor(self._input.take)
        if self._input.take(0, 1) == SYNC[:1]:
            return self._in_order(read_synchronised(cursor, self._header)), cursor.position
        if self._previous is None:
            raise DamagedError("there is no I-frame to begin with")
        return read_pframe(cursor, self.header, self._previous), cursor.position

    def _in_order(self, found: IFrame | EndRecord) -> IFrame | EndRecord:
        frame = found.frame if isinstance(found, IFrame) else found.frame_count
        gap, whole = frame - self._next_frame, self._next_frame - self._lost
        if not 0 <= gap <= max(MAX_LOST_FRAMES, whole) - self._lost:
            raise DamagedError(f"packets are out of order: number {frame} comes next")
        return found

    def _synchronise(self, start: int) -> tuple[IFrame | EndRecord | None, int]:
        """Look for the next whole I-frame or end record from `start` on; None if nothing more comes."""
        while self._input.find(SYNC, start):
            cursor = Cursor(self._input.take)
            try:
                return self._in_order(read_synchronised(cursor, self._header)), cursor.position
            except DamagedError:
                # A true sync marker may stand within a damaged packet. But a file made of nested false
                # packets must not take for ever: having read much in vain, pass over the whole packet.
                self._wasted += cursor.position
                patient = self._wasted < WASTE_ALLOWED + 4 * self._input.offset
                start = 1 if patient else cursor.position
        return None, 0


class _Input:
    """A file or pipe of which what was read but not yet dropped can be looked at again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # A pipe hands over what is there, rather than waiting for a full buffer.
        self._read = getattr(file, "read1", file.read)
        self._begin = file.tell() if file.seekable() else None
        self._buffer = bytearray()
        self._ended = False
        self.offset = 0

    def take(self, position: int, count: int) -> bytes:
        """`count` bytes at `position` from the present offset; raises TruncatedError if the file ends."""
        if not self._fill(position + count):
            raise TruncatedError("the stream is cut off")
        return bytes(self._buffer[position : position + count])

    def _fill(self, count: int) -> bool:
        while len(self._buffer) < count and not self._ended:
            read = self._read(READ_SIZE)
            self._buffer += read
            self._ended = not read
        return len(self._buffer) >= count

    def drop(self, count: int) -> None:
        """Move the present offset forward."""
        del self._buffer[:count]
        self.offset += count

    def find(self, marker: bytes, start: int) -> bool:
        """Move to the next place at or after `start` where `marker` stands; False if there is none."""
        while True:
            found = self._buffer.find(marker, start)
            if found >= 0:
                self.drop(found)
                return True
            self.drop(max(0, min(start, len(self._buffer)), len(self._buffer) - len(marker) + 1))
            start = 0
            if not self._fill(len(self._buffer) + 1):
                return False

    def move_to(self, offset: int) -> None:
        """Go anywhere in a seekable file."""
        assert self._begin is not None
        self._file.seek(self._begin + offset)
        self._buffer.clear()
        self._ended = False
        self.offset = offset

    @property
    def length(self) -> int:
        """Of a seekable file, from the stream's beginning on; 0 of a pipe."""
        if self._begin is None:
            return 0
        here = self._file.tell()
        end = self._file.seek(0, 2)
        self._file.seek(here)
        return end - self._begin

    def last_bytes(self, count: int) -> bytes:
        """The end of a seekable file, without moving; all of a shorter one, nothing of a pipe."""
        if self._begin is None:
            return b""
        here = self._file.tell()
        self._file.seek(self._begin + max(0, self.length - count))
        data = self._file.read(count)
        self._file.seek(here)
        return data
