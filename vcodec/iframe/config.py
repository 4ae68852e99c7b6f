"""What an image codec is built from."""

from dataclasses import dataclass, field

from ..entropy.config import EntropyConfig
from ..layers.transform import TransformConfig


@dataclass(frozen=True)
class ImageConfig:
    """transform and entropy: the sizes. levels: quality levels of a variable-rate model, 0 for a model of one rate.

    fixed_quality: the one quality (0 .. 63) that a model of one rate stands for. experience: whether adaptive coding
    starts with what training pictures taught (`Experience`); within a video model `VideoConfig.experience` says so.
    """

    transform: TransformConfig = field(default_factory=TransformConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    levels: int = 0
    fixed_quality: int = 32
    experience: bool = False
