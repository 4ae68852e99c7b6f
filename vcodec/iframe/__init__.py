"""The coded path of I-frames: image codecs."""

from .config import ImageConfig
from .image_codec import ImageCodec, pad_to_multiple

__all__ = ["ImageCodec", "ImageConfig", "pad_to_multiple"]
