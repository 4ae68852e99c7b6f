"""Packets into a .vcb stream."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import BinaryIO

from vcodec.bitstream_reader import StreamReader
from vcodec.bitstream_syntax import (
    MAX_INDEX,
    EndRecord,
    Previous,
    write_end,
    write_header,
    write_iframe,
    write_parameters,
    write_pframe,
)
from vcodec.bitstream_types import Packet, StreamHeader
from vcodec.errors import VcodecError


class StreamWriter:
    """Writes a stream; the first packet must be an I-frame.

    Args:
        file: open for writing bytes; it is only appended to, and stays open.
        header: what holds for the whole stream.
    """

    def __init__(self, file: BinaryIO, header: StreamHeader) -> None:
        self._begin(file, header)
        self._append(write_header(header))

    def _begin(self, file: BinaryIO, header: StreamHeader) -> None:
        self.header = header
        self._file = file
        self._parameters = write_parameters(header)
        self._iframes: dict[int, int] = {}
        self._previous: Previous | None = None
        self._offset = 0

    @property
    def frame_count(self) -> int:
        """Frames written so far."""
        return self._previous.frame + 1 if self._previous else 0

    @property
    def bytes_written(self) -> int:
        return self._offset

    def write(self, packet: Packet) -> int:
        """Append the packet of the next frame; returns how many bytes it took, framing included.

        Raises:
            VcodecError: a P-frame comes first, or the payload is longer than any frame of this size needs.
        """
        if len(packet.payload) > self.header.max_payload:
            raise VcodecError(f"{len(packet.payload)} bytes are too much for a frame of this size")
        frame = self.frame_count
        if packet.frame_type == "I":
            # The sequence header stands right before the first I-frame, which needs no copy.
            data = write_iframe(self.header, frame, packet, self._parameters if frame else b"")
            self._iframes[frame] = self._offset
        elif self._previous is None:
            raise VcodecError("a stream begins with an I-frame")
        else:
            data = write_pframe(self.header, self._previous, packet)
        self._append(data)
        self._previous = Previous(frame, packet.pts, packet.quality)
        return len(data)

    def close(self) -> None:
        """Write the end record; without it the stream counts as cut off."""
        every = -(-len(self._iframes) // MAX_INDEX) or 1
        iframes = dict(list(self._iframes.items())[::every])
        self._append(write_end(EndRecord(self.frame_count, iframes)))
        self._file.flush()

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._offset += len(data)

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    @classmethod
    def resume(cls, file: BinaryIO, header: StreamHeader) -> StreamWriter:
        """Go on with an unfinished stream after its last whole GOP, giving the bytes of an uninterrupted run.

        Args:
            file: open for reading and writing, at its beginning; what follows the last whole GOP is cut off.
            header: must be the same as before.

        Raises:
            VcodecError: the file is no stream, or has another header.
        """
        reader = StreamReader(file, strict=True)
        if reader.header != header:
            raise VcodecError(f"{reader.name}: unfinished, but of another video, model or setting; delete it")
        writer = cls.__new__(cls)
        writer._begin(file, header)
        writer._offset = len(write_header(header))
        previous = None
        with suppress(VcodecError):  # until the packet that was being written
            for packet in reader:
                assert isinstance(packet, Packet)
                if packet.frame_type == "I":
                    writer._offset, writer._previous = reader.packet_offset, previous
                    writer._iframes[reader.frame] = reader.packet_offset
                previous = Previous(reader.frame, packet.pts, packet.quality)
        writer._iframes.pop(writer.frame_count, None)
        file.seek(writer._offset)
        file.truncate()
        return writer
