"""Models by name: `create_model`, `list_models`, and weight files."""

from ..layers.rate import lambda_of_quality
from . import image_presets as _image_presets  # noqa: F401  (fill the registry)
from . import presets as _presets  # noqa: F401
from .config import VideoConfig
from .describe import ModelDescription, describe_model, describe_models
from .model import ImageModel, ModelOutput, VideoModel
from .registry import DEFAULT_MODEL, list_models, model_config, register_model, registered_model
from .weights import create_model, has_weights, load_model, save_model

__all__ = [
    "DEFAULT_MODEL",
    "ImageModel",
    "ModelDescription",
    "ModelOutput",
    "VideoConfig",
    "VideoModel",
    "create_model",
    "describe_model",
    "describe_models",
    "has_weights",
    "lambda_of_quality",
    "list_models",
    "load_model",
    "model_config",
    "register_model",
    "registered_model",
    "save_model",
]
