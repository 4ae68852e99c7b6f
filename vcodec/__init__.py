"""vcodec: a learned video codec built from visual state space blocks.

import vcodec
report = vcodec.encode("clip.mp4", "clip.vcb", quality=32)
for frame in vcodec.decode("clip.vcb"):
    rgb = vcodec.to_rgb(frame)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codec import Decoder, Encoder
    from .errors import VcodecError
    from .files import decode, encode
    from .models import create_model, list_models, load_model, save_model
    from .video import Frame, VideoFormat, from_rgb, open_video, to_rgb

__version__ = "0.1.0"

_HOMES = {
    "codec": ("Decoder", "Encoder"),
    "errors": ("VcodecError",),
    "files": ("decode", "encode"),
    "models": ("create_model", "list_models", "load_model", "save_model"),
    "video": ("Frame", "VideoFormat", "from_rgb", "open_video", "to_rgb"),
}

__all__ = [
    "Decoder",
    "Encoder",
    "Frame",
    "VcodecError",
    "VideoFormat",
    "create_model",
    "decode",
    "encode",
    "from_rgb",
    "list_models",
    "load_model",
    "open_video",
    "save_model",
    "to_rgb",
]


def __getattr__(name: str) -> Any:
    """Loads what is asked for, so that `vcodec --help` does not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
