"""Models by name."""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import VcodecError
from ..iframe import ImageConfig
from .config import VideoConfig, config_from_dict, config_to_dict
from .model import ImageModel, VideoModel

DEFAULT_MODEL = "mambavc-ssf-small"


@dataclass(frozen=True)
class RegisteredModel:
    """name; kind: image | video; make: gives the configuration; notes: one line for people."""

    name: str
    kind: str
    make: Callable[[], ImageConfig | VideoConfig]
    notes: str


_REGISTRY: dict[str, RegisteredModel] = {}


def register_model(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Registers a function that gives an ImageConfig or a VideoConfig; its docstring's first line is the notes."""

    def register(make: Callable[[], Any]) -> Callable[[], Any]:
        if name in _REGISTRY:
            raise ValueError(f"a model named '{name}' is registered already")
        kind = "video" if isinstance(make(), VideoConfig) else "image"
        _REGISTRY[name] = RegisteredModel(name, kind, make, (make.__doc__ or "").strip().split("\n")[0])
        return make

    return register


def list_models(pattern: str = "*", kind: str | None = None) -> list[str]:
    """Names of the registered models, sorted; pattern with * and ?; kind: image | video | None for both."""
    return sorted(m.name for m in _REGISTRY.values() if fnmatch.fnmatch(m.name, pattern) and kind in (None, m.kind))


def registered_model(name: str) -> RegisteredModel:
    """The registry's entry of a name. Raises VcodecError for an unknown one, naming the nearest."""
    if name == "default":
        name = DEFAULT_MODEL
    if name not in _REGISTRY:
        known = ", ".join(list_models())
        raise VcodecError(f"there is no model named '{name}'; choose one of {known}, or give a .safetensors file")
    return _REGISTRY[name]


def model_config(name: str, **overrides: Any) -> ImageConfig | VideoConfig:
    """The configuration of a registered model.

    overrides: fields of the configuration, those further inside by their path ("entropy.context.spatial"); for a video
    model `iframe` may be the name of an image codec. Raises VcodecError for unknown names and wrong values.
    """
    config = registered_model(name).make()
    if isinstance(overrides.get("iframe"), str):
        iframe = model_config(overrides["iframe"])
        if not isinstance(iframe, ImageConfig):
            raise VcodecError(
                f"'{overrides['iframe']}' is no image codec; choose one of {', '.join(list_models(kind='image'))}"
            )
        overrides["iframe"] = iframe
    inner = {path: overrides.pop(path) for path in list(overrides) if "." in path}
    try:
        return _with_inner(dataclasses.replace(config, **overrides), inner)
    except ValueError as error:
        raise VcodecError(f"model '{name}' can't be built so: {error}") from error
    except TypeError as error:
        fields = ", ".join(f.name for f in dataclasses.fields(config))
        raise VcodecError(f"model '{name}' has no option of that name; its options are {fields}") from error


def _with_inner(config: Any, values: Mapping[str, Any]) -> Any:
    """The configuration with these values at their paths, all types checked. Raises ValueError."""
    data = config_to_dict(config)
    for path, value in values.items():
        *outer, last = path.split(".")
        table: Any = data
        for part in outer:
            table = table.get(part) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            raise ValueError(f"it has no '{path}'")
        table[last] = value
    return config_from_dict(type(config), data)


def build_model(config: ImageConfig | VideoConfig) -> ImageModel:
    """The model of a configuration, freshly initialised."""
    return VideoModel(config) if isinstance(config, VideoConfig) else ImageModel(config)
