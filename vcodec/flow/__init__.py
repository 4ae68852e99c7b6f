"""The coded path of motion: scale-space flow."""

from .block_refinement import BlockRefinement
from .config import FlowConfig
from .motion_search import motion_search
from .scale_space_flow import Motion, ScaleSpaceFlow
from .warp import scale_space_planes, scale_space_warp

__all__ = [
    "BlockRefinement",
    "FlowConfig",
    "Motion",
    "ScaleSpaceFlow",
    "motion_search",
    "scale_space_planes",
    "scale_space_warp",
]
