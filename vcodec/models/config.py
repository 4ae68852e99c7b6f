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
    """The three coded paths. levels: quality levels of a variable-rate model, 0 for a model of one rate.

    subsampled_references: whether references of 4:2:0 video are kept as such video shows them.
    subsampled_pictures: whether pictures of any format are kept and shown so. Networks that were trained on 4:2:0 alone
        leave undefined what such video can't show: finer colours come out as noise.
    experience: whether adaptive coding starts with what training clips taught (`Experience`).
    """

    iframe: ImageConfig = field(default_factory=ImageConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    residual: ResidualConfig = field(default_factory=ResidualConfig)
    levels: int = 0
    fixed_quality: int = 32
    subsampled_references: bool = False
    experience: bool = False
    subsampled_pictures: bool = False


MAX_NUMBER, MAX_DEPTH, MAX_ENTRIES = 4096, 64, 16


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain data for JSON."""
    return dataclasses.asdict(config)


def config_changes(config: Any) -> dict[str, Any]:
    """The fields that differ from their defaults: options that are added later leave this as it is."""
    changes = {}
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        factory = option.default_factory
        default = option.default if factory is dataclasses.MISSING else factory()
        if value != default:
            changes[option.name] = config_changes(value) if dataclasses.is_dataclass(value) else value
    return changes


def config_from_dict(kind: type, data: dict[str, Any]) -> Any:
    """The configuration that `config_to_dict` wrote.

    Raises ValueError when a field is unknown, of another type, or so large that no sensible model could hold it: the
    data may come from anywhere.
    """
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
        if len(value) > MAX_ENTRIES:
            raise ValueError(f"'{name}' has {len(value)} entries, more than {MAX_ENTRIES}")
        item = typing.get_args(hint)[0]
        return tuple(_field_from_data(item, entry, name) for entry in value)
    if isinstance(hint, types.UnionType):
        choices = typing.get_args(hint)
        if value is None and type(None) in choices:
            return None
        hint = next(choice for choice in choices if choice is not type(None))
        return _field_from_data(hint, value, name)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise ValueError(f"'{name}' is {value!r}, not of type {hint.__name__}")
    if hint in (int, float) and not 0 <= value <= (MAX_DEPTH if "depth" in name else MAX_NUMBER):
        raise ValueError(f"'{name}' is {value}, outside the limits")
    return value
