"""What a model is built from, as data: saved inside weight files and rebuilt from there."""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from ..flow.config import FlowConfig
from ..iframe.config import ImageConfig
from ..residual.config import ResidualConfig


@dataclass(frozen=True)
class VideoConfig:
    """The three coded paths. levels: quality levels of a variable-rate model, 0 for a model of one rate."""

    iframe: ImageConfig = field(default_factory=ImageConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    residual: ResidualConfig = field(default_factory=ResidualConfig)
    levels: int = 0
    fixed_quality: int = 32


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain data for JSON."""
    return dataclasses.asdict(config)


def config_from_dict(kind: type, data: dict[str, Any]) -> Any:
    """The configuration that `config_to_dict` wrote. Raises ValueError when a field is unknown or of another type."""
    if not isinstance(data, dict):
        raise ValueError(f"{kind.__name__} is not a table of fields")
    hints = typing.get_type_hints(kind)
    unknown = set(data) - set(hints)
    if unknown:
        raise ValueError(f"{kind.__name__} has no field '{sorted(unknown)[0]}'")
    return kind(**{name: _field_from_data(hints[name], value, name) for name, value in data.items()})


def _field_from_data(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return config_from_dict(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"'{name}' is not a list")
        item = typing.get_args(hint)[0]
        return tuple(_field_from_data(item, entry, name) for entry in value)
    if isinstance(hint, types.UnionType):
        choices = typing.get_args(hint)
        if value is None and type(None) in choices:
            return None
        hint = next(choice for choice in choices if choice is not type(None))
        return _field_from_data(hint, value, name)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"'{name}' is {value!r}, not of type {hint.__name__}")
    return value
