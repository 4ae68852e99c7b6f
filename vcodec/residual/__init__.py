"""The coded path of the residual."""

from .config import ResidualConfig
from .residual_codec import ResidualCodec

__all__ = ["ResidualCodec", "ResidualConfig"]
