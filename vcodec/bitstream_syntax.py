"""How the parts of a .vcb stream become bytes and come back (docs/bitstream.md)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, NamedTuple

from vcodec.bitstream_types import MAX_FRAMES, MAX_RATIO, Arithmetic, Packet, StreamHeader
from vcodec.errors import VcodecError
from vcodec.video.format import Chroma, Matrix, VideoFormat

VERSION = 1
MAGIC = b"\xf5VCB"
SYNC = b"\xf5VS" + bytes([VERSION])
"""Begins every I-frame and the end record; no P-frame begins with its first byte."""
TRAILER = struct.Struct("<I4s")
TRAILER_MAGIC = b"VCBE"
INTRA, END = 0, 1

MAX_VARINT = (1 << 63) - 1
MAX_HEADER_BYTES = 256
MAX_INDEX = 1 << 16
MAX_END_BYTES = 1 << 20
CHROMAS: tuple[Chroma, ...] = ("gray", "420", "422", "444", "rgb")
MATRICES: tuple[Matrix, ...] = ("bt601", "bt709", "bt2020")
HAS_FRAME_RATE, HAS_COLOR, HAS_ASPECT, IS_BF16 = 1, 2, 4, 8
TIME_CODES = {0: 0, 1: 1, -1: 2}
EXPLICIT_TIME = 3


class IFrame(NamedTuple):
    """An I-frame with its number and the header that it repeats, or that was known before."""

    header: StreamHeader
    frame: int
    packet: Packet


class EndRecord(NamedTuple):
    """The end of a stream: how many frames it has, and the byte offset of every I-frame by its number."""

    frame_count: int
    iframes: dict[int, int]


class Previous(NamedTuple):
    """What a P-frame refers to: the frame before it."""

    frame: int
    pts: int
    quality: int


class DamagedError(Exception):
    """These bytes are not what they should be; the text says why."""


class TruncatedError(DamagedError):
    """The stream ends before the part that was being read."""


# --- Writing -----------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the high bit set on all but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """0, -1, 1, -2, ... as the varints 0, 1, 2, 3, ..."""
    return varint(2 * value if value >= 0 else -2 * value - 1)


def checksum(frame: int, data: bytes | memoryview) -> int:
    """CRC-32 over the frame's number (8 bytes, little endian) and the packet."""
    return zlib.crc32(data, zlib.crc32(struct.pack("<Q", frame)))


def write_parameters(header: StreamHeader) -> bytes:
    """All of the header that a decoder needs; every I-frame but the first holds a copy."""
    video = header.format
    aspect = video.sample_aspect_ratio
    color = (video.primaries, video.transfer)
    flags = (
        (HAS_FRAME_RATE if header.frame_rate else 0)
        | (HAS_COLOR if color != (2, 2) else 0)
        | (HAS_ASPECT if aspect != 1 else 0)
        | (IS_BF16 if header.arithmetic == "bf16" else 0)
    )
    out = varint(video.width) + varint(video.height)
    chroma, matrix = CHROMAS.index(video.chroma), MATRICES.index(video.matrix)
    out += bytes([chroma | (video.bit_depth == 10) << 3 | video.full_range << 4 | matrix << 5, flags])
    out += varint(header.time_base.numerator) + varint(header.time_base.denominator)
    if header.frame_rate:
        out += varint(header.frame_rate.numerator) + varint(header.frame_rate.denominator)
    if flags & HAS_COLOR:
        out += bytes(color)
    if flags & HAS_ASPECT:
        out += varint(aspect.numerator) + varint(aspect.denominator)
    out += varint(0 if header.gop_size == -1 else header.gop_size)
    name = header.model.encode("ascii")
    return out + header.weights_hash + bytes([len(name)]) + name


def write_header(header: StreamHeader) -> bytes:
    """The sequence header, with which a stream begins."""
    fields = varint(0 if header.frame_count is None else header.frame_count + 1) + write_parameters(header)
    out = MAGIC + bytes([VERSION]) + varint(len(fields)) + fields
    return out + struct.pack("<I", zlib.crc32(out))


def write_iframe(header: StreamHeader, frame: int, packet: Packet, parameters: bytes) -> bytes:
    out = SYNC + bytes([INTRA]) + varint(frame) + signed_varint(packet.pts - header.frame_time(frame))
    out += bytes([packet.quality]) + varint(len(parameters)) + parameters
    out += varint(len(packet.payload)) + packet.payload
    return out + struct.pack("<I", checksum(frame, out))


def write_pframe(header: StreamHeader, previous: Previous, packet: Packet) -> bytes:
    frame = previous.frame + 1
    late = packet.pts - expected_pts(header, previous)
    time_code = TIME_CODES.get(late, EXPLICIT_TIME)
    new_quality = packet.quality != previous.quality
    out = bytes([packet.skip | time_code << 2 | new_quality << 4])
    if new_quality:
        out += bytes([packet.quality])
    if time_code == EXPLICIT_TIME:
        out += signed_varint(late)
    out += varint(len(packet.payload)) + packet.payload
    return out + struct.pack("<I", checksum(frame, out))


def write_end(end: EndRecord) -> bytes:
    out = SYNC + bytes([END]) + varint(end.frame_count) + varint(len(end.iframes))
    last_frame, last_offset = 0, 0
    for frame, offset in end.iframes.items():
        out += varint(frame - last_frame) + varint(offset - last_offset)
        last_frame, last_offset = frame, offset
    out += struct.pack("<I", checksum(end.frame_count, out))
    return out + TRAILER.pack(len(out), TRAILER_MAGIC)


def expected_pts(header: StreamHeader, previous: Previous) -> int:
    """One frame time after the previous frame."""
    step = header.frame_time(previous.frame + 1) - header.frame_time(previous.frame)
    return previous.pts + step


# --- Reading -----------------------------------------------------------------------------------------------


class Cursor:
    """Takes fields from bytes one after another.

    Args:
        source: `source(position, count)` gives `count` bytes or raises TruncatedError.
    """

    def __init__(self, source: Callable[[int, int], bytes]) -> None:
        self._source = source
        self.position = 0

    @classmethod
    def over(cls, data: bytes) -> Cursor:
        """A cursor over bytes in memory."""

        def source(position: int, count: int) -> bytes:
            if position + count > len(data):
                raise TruncatedError("it is cut off")
            return data[position : position + count]

        return cls(source)

    def take(self, count: int) -> bytes:
        taken = self._source(self.position, count)
        self.position += count
        return taken

    def taken(self, since: int) -> bytes:
        """What was taken from a position on."""
        return self._source(since, self.position - since)

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, limit: int = MAX_VARINT) -> int:
        value = shift = 0
        byte = 0x80
        while byte & 0x80:
            if shift == 63:
                raise DamagedError("a number is too long")
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
        if value > limit or (byte == 0 and shift > 7):
            raise DamagedError("a number is out of range")
        return value

    def signed_varint(self) -> int:
        value = self.varint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def ratio(self) -> Fraction:
        numerator, denominator = self.varint(MAX_RATIO), self.varint(MAX_RATIO)
        if numerator == 0 or denominator == 0:
            raise DamagedError("a ratio is zero")
        return Fraction(numerator, denominator)

    def verify(self, crc: Callable[[bytes], int]) -> None:
        """Take four bytes and see that they are the CRC-32 of everything before them."""
        data = self.taken(0)
        if struct.unpack("<I", self.take(4))[0] != crc(data):
            raise DamagedError("its checksum is wrong")


def read_header(cursor: Cursor) -> StreamHeader:
    """The sequence header.

    Raises:
        VcodecError: this is no stream, or one of another version.
        DamagedError: it is damaged.
    """
    try:
        magic, version = cursor.take(len(MAGIC)), cursor.byte()
    except TruncatedError:
        magic, version = b"", 0
    if magic != MAGIC:
        raise VcodecError("not a vcodec stream (.vcb)")
    if version != VERSION:
        raise VcodecError(f"a vcodec stream of version {version}, and this program reads version {VERSION}")
    length = cursor.varint(MAX_HEADER_BYTES)
    fields = Cursor.over(cursor.take(length))
    cursor.verify(zlib.crc32)
    count = fields.varint(MAX_FRAMES + 1)
    header = read_parameters(fields, count - 1 if count else None)
    if fields.position != length:
        raise DamagedError("its length is wrong")
    return header


def read_parameters(cursor: Cursor, frame_count: int | None = None) -> StreamHeader:
    """What `write_parameters` wrote; raises DamagedError, also for values that it would have written otherwise."""
    begin = cursor.position
    width, height = cursor.varint(), cursor.varint()
    picture, flags = cursor.byte(), cursor.byte()
    chroma, matrix = picture & 7, picture >> 5
    if chroma >= len(CHROMAS) or matrix >= len(MATRICES) or flags > 15:
        raise DamagedError("its picture format is unknown")
    time_base = cursor.ratio()
    frame_rate = cursor.ratio() if flags & HAS_FRAME_RATE else None
    primaries, transfer = cursor.take(2) if flags & HAS_COLOR else (2, 2)
    aspect = cursor.ratio() if flags & HAS_ASPECT else Fraction(1)
    gop_size = cursor.varint() or -1
    weights_hash = cursor.take(8)
    try:
        model = cursor.take(cursor.byte()).decode("ascii")
        color = (MATRICES[matrix], bool(picture & 16), primaries, transfer)
        video = VideoFormat(width, height, CHROMAS[chroma], 10 if picture & 8 else 8, *color, aspect)
        arithmetic: Arithmetic = "bf16" if flags & IS_BF16 else "fp32"
        rest = (frame_rate, time_base, frame_count, gop_size, arithmetic)
        header = StreamHeader(model, weights_hash, video, *rest)
    except (VcodecError, UnicodeDecodeError) as error:
        raise DamagedError(str(error)) from error
    if cursor.taken(begin) != write_parameters(header):
        raise DamagedError("its parameters are not in their shortest form")
    return header


def read_synchronised(cursor: Cursor, header: StreamHeader | None) -> IFrame | EndRecord:
    """What a sync marker begins: an I-frame, with its header and number, or the end record."""
    if cursor.take(len(SYNC)) != SYNC:
        raise DamagedError("there is no sync marker")
    kind = cursor.byte()
    if kind == END:
        return _read_end(cursor)
    if kind != INTRA:
        raise DamagedError("the packet's kind is unknown")
    frame, late, quality = cursor.varint(MAX_FRAMES), cursor.signed_varint(), cursor.byte()
    parameters = cursor.take(cursor.varint(MAX_HEADER_BYTES))
    if parameters:
        if header is None or parameters != write_parameters(header):
            copy = Cursor.over(parameters)
            found = read_parameters(copy)
            if header is not None or copy.position != len(parameters):
                raise DamagedError("an I-frame belongs to another stream")
            header = found
    elif header is None:
        raise DamagedError("an I-frame comes without the stream's parameters")
    payload = cursor.take(cursor.varint(header.max_payload))
    cursor.verify(lambda data: checksum(frame, data))
    return IFrame(header, frame, _packet("I", quality, header.frame_time(frame) + late, payload, 0))


def _read_end(cursor: Cursor) -> EndRecord:
    frame_count = cursor.varint(MAX_FRAMES)
    iframes: dict[int, int] = {}
    frame = offset = 0
    for _ in range(cursor.varint(MAX_INDEX)):
        frame += cursor.varint(MAX_FRAMES)
        offset += cursor.varint()
        iframes[frame] = offset
    cursor.verify(lambda data: checksum(frame_count, data))
    return EndRecord(frame_count, iframes)


def read_pframe(cursor: Cursor, header: StreamHeader, previous: Previous) -> Packet:
    """The P-frame that follows `previous`."""
    head = cursor.byte()
    if head > 31:
        raise DamagedError("a packet doesn't begin like one")
    skip, time_code = head & 3, head >> 2 & 3
    quality = cursor.byte() if head & 16 else previous.quality
    late = cursor.signed_varint() if time_code == EXPLICIT_TIME else (0, 1, -1)[time_code]
    payload = cursor.take(cursor.varint(header.max_payload))
    cursor.verify(lambda data: checksum(previous.frame + 1, data))
    return _packet("P", quality, expected_pts(header, previous) + late, payload, skip)


def _packet(frame_type: Literal["I", "P"], quality: int, pts: int, payload: bytes, skip: int) -> Packet:
    try:
        return Packet(frame_type, quality, pts, payload, skip)
    except VcodecError as error:
        raise DamagedError(str(error)) from error
