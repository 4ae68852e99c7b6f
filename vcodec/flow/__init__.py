"""The coded path of motion: scale-space flow, or blocks."""

from .block_motion import BlockMotion
from .block_refinement import BlockRefinement
from .config import FlowConfig
from .motion import Motion
from .motion_search import motion_search
from .scale_space_flow import ScaleSpaceFlow
from .warp import scale_space_planes, scale_space_warp

__all__ = [
    "BlockMotion",
    "BlockRefinement",
    "FlowConfig",
    "Motion",
    "ScaleSpaceFlow",
    "motion_search",
    "scale_space_planes",
    "scale_space_warp",
]
