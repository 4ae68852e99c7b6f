"""What `vcodec models` lists."""

from dataclasses import dataclass

import torch

from ..iframe import ImageConfig
from .registry import DEFAULT_MODEL, build_model, list_models, registered_model
from .weights import has_weights


@dataclass(frozen=True)
class ModelDescription:
    """One registered model.

    kind: image | video; parameters: how many; transform: vss | swin | conv | semantic, of the I-frame codec; weights:
    whether trained ones ship; default: whether it is what "default" stands for; notes: one line for people.
    """

    name: str
    kind: str
    parameters: int
    transform: str
    weights: bool
    default: bool
    notes: str


def describe_models(pattern: str = "*") -> list[ModelDescription]:
    """The registered models that match, sorted by name. None is built in memory: their tensors have shapes alone."""
    return [describe_model(name) for name in list_models(pattern)]


def describe_model(name: str) -> ModelDescription:
    """One of them. Raises VcodecError for an unknown name."""
    entry = registered_model(name)
    config = entry.make()
    with torch.device("meta"):
        model = build_model(config)
    image = config if isinstance(config, ImageConfig) else config.iframe
    return ModelDescription(
        name=entry.name,
        kind=entry.kind,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        transform=image.transform.kind,
        weights=has_weights(entry.name),
        default=entry.name == DEFAULT_MODEL,
        notes=entry.notes,
    )
