"""Whether a file ends before its own structure says it should; FFmpeg's demuxers pass over that in silence."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

MAX_BOXES = 100_000
EBML = bytes.fromhex("1a45dfa3")
SEGMENT = bytes.fromhex("18538067")
BOX_TYPES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp")


def is_cut_off(path: Path) -> bool:
    """True if an mp4, mov, mkv, webm or avi file is shorter than its outermost parts say; False if unknown."""
    if not path.is_file():
        return False
    length = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        file.seek(0)
        if start[4:8] in BOX_TYPES:
            return _last_box_end(file, length) > length
        if start[:4] == EBML:
            return _segment_end(file) > length
        if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
            return struct.unpack("<I", start[4:8])[0] + 8 > length
    return False


def _last_box_end(file: BinaryIO, length: int) -> int:
    """ISO/IEC 14496-12, section 4.2: boxes of a 32-bit size and a type, or size 1 and 64 bits after the type."""
    end = 0
    for _ in range(MAX_BOXES):
        file.seek(end)
        head = file.read(16)
        if end >= length or len(head) < 8:
            break
        size = struct.unpack(">I", head[:4])[0]
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if size < 8:  # 0: up to the end of the file
            break
        end += size
    return end


def _segment_end(file: BinaryIO) -> int:
    """RFC 8794 and RFC 9559: the EBML header, then the segment with everything else."""
    file.seek(4)
    header_bytes, known = _element_size(file)
    file.seek(header_bytes, 1)
    if not known or file.read(4) != SEGMENT:
        return 0
    size, known = _element_size(file)
    return file.tell() + size if known else 0


def _element_size(file: BinaryIO) -> tuple[int, bool]:
    """A size of 1 to 8 bytes, of which the zeros in front tell the number; all ones mean unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0, False
    count = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> count)]) + file.read(count), "big")
    return value, value != (1 << 7 * (count + 1)) - 1
