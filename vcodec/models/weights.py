"""Weight files: safetensors with the configuration inside, and the weights that ship with the package."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import VcodecError
from ..iframe import ImageConfig
from .config import VideoConfig, config_changes, config_from_dict, config_to_dict
from .model import ImageModel
from .registry import DEFAULT_MODEL, build_model, model_config, registered_model

SHIPPED = Path(__file__).parent / "weights"
FORMAT = "vcodec-model-1"
NAME = re.compile(r"[\w-][\w.-]*")
KINDS = {"image": ImageConfig, "video": VideoConfig}


def create_model(name: str = "default", *, pretrained: bool | None = None, **overrides: Any) -> ImageModel:
    """A registered model, or one revision of it ("NAME.r1").

    pretrained: True loads the weights that ship (an error where none do), False initialises afresh, None takes them
    where they ship and nothing is overridden. overrides: see `model_config`; iframe="mambavc" puts that image codec
    in the I-frame's place. Raises VcodecError for unknown names and options.
    """
    name = DEFAULT_MODEL if name == "default" else name
    path = shipped_weights(name)
    if pretrained is None:
        pretrained = path is not None and not overrides
    if not pretrained:
        try:
            model = build_model(model_config(_without_revision(name), **overrides))
        except ValueError as error:
            raise VcodecError(f"model '{name}' can't be built so: {error}") from error
        model.name = _without_revision(name)
        return model
    if overrides:
        raise VcodecError(f"the weights of '{name}' fit its own sizes only: leave the overrides or pretrained out")
    if path is None:
        registered_model(_without_revision(name))
        raise VcodecError(f"no weights ship for '{name}': train it with train_video.py, or give a .safetensors file")
    return load_model(path)


def has_weights(name: str) -> bool:
    """Whether weights ship for a model."""
    return shipped_weights(name) is not None


def shipped_weights(name: str) -> Path | None:
    """The file of "NAME.rK", or of the newest revision of "NAME"; None where none ships."""
    name = DEFAULT_MODEL if name == "default" else name
    if not NAME.fullmatch(name):  # it may come from a stream, and is no path or pattern
        return None
    if _without_revision(name) != name:
        path = SHIPPED / f"{name}.safetensors"
        return path if path.is_file() else None
    found = [p for p in SHIPPED.glob(f"{name}.r*.safetensors") if p.stem.rpartition(".r")[2].isdigit()]
    return max(found, key=lambda p: int(p.stem.rpartition(".r")[2]), default=None)


def save_model(model: ImageModel, path: str | os.PathLike[str], *, half: bool = False, name: str | None = None) -> None:
    """Writes weights, integer tables and configuration; beside the target first, then renamed.

    half: floating-point tensors as float16, as weights ship. name: what streams will call the model.
    A model in training mode gets new tables; one that was loaded keeps its own, which its streams depend on.
    """
    if model.training or not model.has_tables:
        model.update()
    tensors = {}
    for key, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        tensors[key] = tensor.to(torch.float16 if half else torch.float32) if tensor.is_floating_point() else tensor
    kind = "video" if isinstance(model.config, VideoConfig) else "image"
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "name": name or model.name,
        "config": json.dumps(config_to_dict(model.config)),
    }
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(save(tensors, metadata))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise VcodecError(f"{path}: the model can't be written: {error.strerror or error}") from error


def load_model(path: str | os.PathLike[str]) -> ImageModel:
    """The model that `save_model` wrote. Raises VcodecError when the file is not one, or holds NaN or wrong shapes."""
    path = Path(path)
    if not path.is_file():
        raise VcodecError(f"{path}: there is no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise VcodecError(
            f"{path}: this is not a safetensors file ({error}); model files are written by train_video.py"
        ) from error
    if metadata.get("format") != FORMAT or metadata.get("kind") not in KINDS:
        raise VcodecError(
            f"{path}: this safetensors file holds no vcodec model; model files are written by train_video.py"
        )
    try:
        config = config_from_dict(KINDS[metadata["kind"]], json.loads(metadata["config"]))
        with torch.device("meta"):  # takes no memory, whatever the configuration asks for
            expected = build_model(config).state_dict()
    except (ValueError, LookupError, TypeError, ArithmeticError, RuntimeError) as error:
        raise VcodecError(f"{path}: the configuration inside can't be read: {error}") from error
    _check_tensors(path, tensors, expected)
    model = build_model(config)
    model.load_state_dict(tensors)
    if not model.has_tables:
        raise VcodecError(f"{path}: the tables of the entropy coder are damaged")
    shipped = path.parent == SHIPPED
    model.name = path.stem if shipped else metadata.get("name", path.stem)
    return model.eval()


def _check_tensors(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises VcodecError unless a file's tensors are those of its configuration, and numbers all of them."""
    for key in sorted(tensors.keys() ^ expected.keys()):
        which = "are missing" if key in expected else "belong to no part of the model"
        raise VcodecError(f"{path}: the weights do not fit the configuration inside: those of '{key}' {which}")
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape or tensor.is_floating_point() != expected[key].is_floating_point():
            raise VcodecError(
                f"{path}: the weights do not fit the configuration inside: '{key}' is {tensor.dtype} "
                f"{tuple(tensor.shape)} in place of {expected[key].dtype} {tuple(expected[key].shape)}"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise VcodecError(f"{path}: '{key}' holds values that are no numbers; the file is damaged")


def weights_hash(model: ImageModel) -> bytes:
    """Eight bytes that stand for a model's configuration and weights; streams carry them."""
    digest = hashlib.sha256(json.dumps(config_changes(model.config), sort_keys=True).encode())
    for key, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{key} {tuple(values.shape)}".encode())
        digest.update((values.float() if values.is_floating_point() else values).numpy().tobytes())
    return digest.digest()[:8]


def _without_revision(name: str) -> str:
    base, separator, revision = name.rpartition(".r")
    return base if separator and revision.isdigit() else name
