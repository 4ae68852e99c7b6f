"""Checkpoints: all that a run needs to go on exactly, written beside and then renamed."""

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from ..errors import VcodecError


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write `state` (tensors and plain Python values) to `path`. OSError if the disk refuses."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(f"{path}: can't be written ({error})") from error


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """The state in a file that `save_checkpoint` wrote; it can hold no code."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise VcodecError(f"{path}: no such checkpoint; start without --resume") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise VcodecError(f"{path}: not a readable checkpoint of train_video.py ({error})") from error
    if not isinstance(state, dict) or "model" not in state or "step" not in state:
        raise VcodecError(f"{path}: not a checkpoint of train_video.py")
    return state
