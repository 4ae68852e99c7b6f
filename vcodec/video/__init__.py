"""Video in and out: readers, writers, colour, frame sizes and time stamps (numpy only)."""

from vcodec.video.color import from_rgb, to_rgb
from vcodec.video.format import Frame, VideoFormat
from vcodec.video.reader import VideoReader, open_video
from vcodec.video.writer import VideoWriter, create_video

__all__ = [
    "Frame",
    "VideoFormat",
    "VideoReader",
    "VideoWriter",
    "create_video",
    "from_rgb",
    "open_video",
    "to_rgb",
]
