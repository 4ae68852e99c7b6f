"""The container of a coded video: packets into a .vcb stream and back.

A stream is a sequence header, one packet for each frame, and an end record with an index. It can be written
to and read from a pipe. I-frames begin with a sync marker and repeat the header: reading goes on there after
damage. docs/bitstream.md describes every byte.
"""

from vcodec.bitstream_reader import StreamReader
from vcodec.bitstream_types import Damage, Packet, StreamHeader
from vcodec.bitstream_writer import StreamWriter

__all__ = ["Damage", "Packet", "StreamHeader", "StreamReader", "StreamWriter"]
