"""What the residual path is built from."""

from dataclasses import dataclass, field

from ..entropy.config import EntropyConfig
from ..layers.transform import TransformConfig


@dataclass(frozen=True)
class ResidualConfig:
    """conditional: analysis, synthesis and means see the prediction as well, through features of the given widths

    (condition_widths: one for each sampling step of the transform). Otherwise the synthesis sees the motion latents,
    as in SSF.
    """

    transform: TransformConfig = field(default_factory=TransformConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    conditional: bool = False
    condition_widths: tuple[int, ...] = (48, 64, 64)
