"""What the tests of the codec are made of: small moving pictures, and small models of every architecture."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vcodec.entropy.config import EntropyConfig
from vcodec.flow import FlowConfig
from vcodec.iframe import ImageConfig
from vcodec.layers.transform import TransformConfig
from vcodec.models import ImageModel, VideoConfig, model_config
from vcodec.models.registry import build_model
from vcodec.residual import ResidualConfig
from vcodec.video import Frame, VideoFormat, from_rgb

TEST_DATA = Path(__file__).parent / "data"


def moving_frames(format: VideoFormat, count: int, speed: tuple[float, float] = (1.0, 0.5)) -> list[Frame]:
    """A coloured texture that moves by `speed` (x, y) pixels a frame."""
    y, x = np.mgrid[0 : format.height, 0 : format.width].astype(np.float32)[..., None]
    tints = np.arange(3, dtype=np.float32)
    frames = []
    for index in range(count):
        left, down = x - speed[0] * index, y - speed[1] * index
        rgb = 0.5 + 0.25 * np.sin(0.31 * left + 0.2 * down + 0.3 * tints) + 0.15 * np.cos(0.53 * down - 0.17 * left)
        frames.append(from_rgb(rgb + 0.05 * np.sin(1.9 * left * (1 + tints / 9)), format, index))
    return frames


def scrambled(model: ImageModel, seed: int = 0) -> ImageModel:
    """The model with noise on every parameter, so that layers which start at zero take part; ready to code."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    model.update()
    return model.eval()


def small_model(name: str) -> ImageModel:
    """The registered architecture with an eighth of its widths, freshly initialised and scrambled."""
    torch.manual_seed(0)
    model = build_model(shrunk(model_config(name)))
    model.name = f"small-{name}"
    return scrambled(model)


def shrunk(config: Any) -> Any:
    """A configuration with every width divided by eight (at least 8) and no more than two blocks in a row."""
    changes = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = shrunk(value)
        elif "width" in field.name:
            changes[field.name] = _eighth(value)
        elif field.name == "depths":
            changes[field.name] = tuple(min(depth, 2) for depth in value)
    return dataclasses.replace(config, **changes)


def _eighth(width: Any) -> Any:
    return tuple(map(_eighth, width)) if isinstance(width, tuple) else max(8, width // 8)


def assert_same_picture(one: Frame, other: Frame) -> None:
    assert one.format == other.format
    for a, b in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(a, b)


def tiny_config() -> VideoConfig:
    """The configuration of tests/data/tiny.safetensors: every kind of block, two entropy models, most options."""
    hyper = TransformConfig(
        kind="vss", widths=(8, 8), strides=(2, 2), kernels=(3, 3), depths=(1,), sampling="shuffle", d_state=2
    )
    image = TransformConfig(
        kind="vss", widths=(8, 16), strides=(4, 2), kernels=(3, 1), depths=(1,), sampling="shuffle", shortcut=True,
        d_state=2, expand=1.0,
    )  # fmt: skip
    flow = TransformConfig(
        kind="conv", widths=(8, 8, 8), strides=(2, 2, 1), kernels=(3, 1, 1), depths=(0, 1), sampling="shuffle",
        shortcut=True,
    )  # fmt: skip
    residual = TransformConfig(
        kind="swin", widths=(8, 8, 8, 12), strides=(4, 2, 2, 1), kernels=(3, 1, 1, 1), depths=(0, 1, 2),
        sampling="shuffle", shortcut=True, window=2, head_width=4, mlp_ratio=2.0,
    )  # fmt: skip
    checkerboard = EntropyConfig(model="checkerboard", hyper=hyper, width=8, context_width=6)
    return VideoConfig(
        iframe=ImageConfig(image, checkerboard, levels=3),
        flow=FlowConfig(
            flow, EntropyConfig(hyper=hyper, step=2.0, span=6.0), planes=2, sigma=0.0, resolution=4, search=True,
            interpolation="bicubic",
        ),
        residual=ResidualConfig(residual, checkerboard, conditional=True, condition_widths=(8, 8, 8)),
        levels=3,
    )  # fmt: skip
