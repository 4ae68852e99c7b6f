"""The registered models' sizes."""

from dataclasses import replace

from ..entropy.config import EntropyConfig
from ..flow import FlowConfig
from ..flow.block_motion import SIDE_CHANNELS
from ..iframe import ImageConfig
from ..layers.transform import TransformConfig
from ..residual import ResidualConfig
from .config import VideoConfig
from .registry import register_model

LEVELS = 9

# Steps of an orthonormal transform: (24 / (255^2 lambda)) ** 0.5, so that RDOQ_PRICE bits are worth a squared step
STEP, SPAN = 1.33, 42.2


def _ssf(kind: str, window: int, levels: int = 0) -> tuple[TransformConfig, EntropyConfig]:
    """One path of scale-space flow at the paper's sizes (MambaVC, appendix A)."""
    transform = TransformConfig(kind=kind, activation="relu", window=window, swin_norm=False)
    hyper = replace(transform, widths=(192, 192, 192), strides=(2, 2, 2), kernels=(5, 5, 5), depths=(1, 1))
    return transform, EntropyConfig(hyper=hyper)


def _ssf_video(kind: str) -> VideoConfig:
    (image, image_entropy), (flow, flow_entropy) = _ssf(kind, 8), _ssf(kind, 4)
    return VideoConfig(
        iframe=ImageConfig(image, image_entropy),
        flow=FlowConfig(flow, flow_entropy),
        residual=ResidualConfig(image, image_entropy),
    )


@register_model("ssf")
def ssf() -> ImageConfig:
    """The I-frame codec of MambaVC-SSF: VSS blocks in scale-space flow's hyperprior codec."""
    return ImageConfig(*_ssf("vss", 8))


@register_model("mambavc-ssf")
def mambavc_ssf() -> VideoConfig:
    """MambaVC-SSF at the paper's size: VSS blocks in all three paths."""
    return _ssf_video("vss")


@register_model("swinvc-ssf")
def swinvc_ssf() -> VideoConfig:
    """SwinVC-SSF: Swin blocks with windows of 8, 4 and 8 and ReLU in place of LayerNorm."""
    return _ssf_video("swin")


@register_model("convvc-ssf")
def convvc_ssf() -> VideoConfig:
    """ConvVC-SSF: scale-space flow itself, convolutions and ReLU."""
    return _ssf_video("conv")


def _small_hyper(width: int, latents: int, steps: int) -> TransformConfig:
    return TransformConfig(
        kind="conv", activation="relu", widths=(*[width] * (steps - 1), latents), strides=(2,) * steps,
        kernels=(3,) * steps, depths=(1,) * (steps - 1), sampling="shuffle",
    )  # fmt: skip


def _small_transform(kind: str, widths: tuple[int, int, int], depths: tuple[int, int]) -> TransformConfig:
    """Of pictures and residuals: a DCT of 8x8 as analysis, and in the synthesis a network beside its inverse."""
    return TransformConfig(
        kind=kind, widths=widths, strides=(4, 2, 1), kernels=(3, 1, 1), depths=depths, sampling="shuffle",
        shortcut=True, fixed_shortcut=True, linear_analysis=True, d_state=1, expand=1.0, mlp_ratio=2.0,
    )  # fmt: skip


def _small_image(kind: str) -> ImageConfig:
    entropy = EntropyConfig(
        model="checkerboard", hyper=_small_hyper(64, 64, 3), width=64, linear=True, distribution="laplace",
        adaptive=True, step=STEP, span=SPAN, fixed_steps=True, least_scale=0.25, passes=4, dc_prediction=True,
    )  # fmt: skip
    return ImageConfig(_small_transform(kind, (64, 128, 96), (1, 3)), entropy, levels=LEVELS)


def _small_flow(kind: str) -> FlowConfig:
    """A learned flow at a quarter of the size, mended by a vector for each block."""
    transform = TransformConfig(
        kind=kind, widths=(64, 64, 64), strides=(2, 2, 1), kernels=(3, 1, 1), depths=(0, 2), sampling="shuffle",
        shortcut=True, d_state=1, expand=1.0, window=4, mlp_ratio=2.0,
    )  # fmt: skip
    entropy = EntropyConfig(
        model="checkerboard", hyper=_small_hyper(64, 48, 2), width=64, context_width=40, temporal=True, linear=True,
        distribution="laplace", adaptive=True, step=2.0, span=6.0,
    )  # fmt: skip
    return FlowConfig(
        transform, entropy, planes=2, sigma=0.0, resolution=4, search=True, interpolation="bicubic", refinement=8
    )


def _small_video(kind: str, flow: FlowConfig) -> VideoConfig:
    return VideoConfig(
        iframe=_small_image(kind),
        flow=flow,
        residual=ResidualConfig(
            _small_transform(kind, (48, 96, 96), (0, 2)),
            EntropyConfig(
                model="checkerboard", hyper=_small_hyper(48, 64, 3), width=48, context_width=32, temporal=True,
                distribution="laplace", adaptive=True, step=STEP, span=SPAN, fixed_steps=True,
                side=SIDE_CHANNELS if flow.blocks else 0,
            ),
            conditional=True,
            condition_widths=(48, 64),
        ),
        levels=LEVELS,
        subsampled_references=True,
        subsampled_pictures=True,
    )  # fmt: skip


@register_model("mambavc-ssf-small")
def mambavc_ssf_small() -> VideoConfig:
    """The default: variable rate, VSS blocks at strides 4 and 8, motion in blocks, sized for a laptop's CPU."""
    return _small_video("vss", FlowConfig(blocks=True))


@register_model("mambavc-ssf-flow-small")
def mambavc_ssf_flow_small() -> VideoConfig:
    """The default model with a learned scale-space flow of VSS blocks in place of motion in blocks."""
    return _small_video("vss", _small_flow("vss"))


@register_model("swinvc-ssf-small")
def swinvc_ssf_small() -> VideoConfig:
    """The default model's twin with Swin blocks."""
    return _small_video("swin", FlowConfig(blocks=True))


@register_model("convvc-ssf-small")
def convvc_ssf_small() -> VideoConfig:
    """The default model's twin with GDN."""
    return _small_video("conv", FlowConfig(blocks=True))
