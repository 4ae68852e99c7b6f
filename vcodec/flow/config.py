"""What the motion path is built from."""

from dataclasses import dataclass, field

from ..entropy.config import EntropyConfig
from ..layers.transform import TransformConfig


@dataclass(frozen=True)
class FlowConfig:
    """planes: blurred planes of the scale-space volume. sigma: blur of the first one, 0 for a plain pyramid.

    resolution: 1 codes the flow at the frame's own resolution, 4 at a quarter of it (then strides count from there).
    search: start from block matching in the encoder. interpolation: of the sharp plane, bilinear or bicubic.
    refinement: side of the blocks that may have a displacement of their own, 0 for none.
    blocks: motion in blocks (`BlockMotion`) in place of a learned flow; all other options are of no use then.
    """

    transform: TransformConfig = field(default_factory=TransformConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    planes: int = 5
    sigma: float = 1.5
    resolution: int = 1
    search: bool = False
    interpolation: str = "bilinear"
    refinement: int = 0
    blocks: bool = False
