"""The image codecs of the literature at their published sizes, and small ones of variable rate for the CPU."""

from dataclasses import replace

from ..entropy.config import ContextConfig, EntropyConfig
from ..iframe import ImageConfig
from ..layers.transform import TransformConfig
from .presets import LEVELS, SPAN, STEP
from .registry import register_model


def _codec(kind: str, width: int, kernel: int, hyper_window: int) -> ImageConfig:
    """MambaVC's frame (appendix A): (C1 .. C6) = (width x 3, 320, width, 192), (L1 .. L4) = (2, 2, 9, 2)."""
    transform = TransformConfig(
        kind=kind, widths=(width, width, width, 320), kernels=(5, kernel, kernel, kernel), depths=(2, 2, 9)
    )
    hyper = TransformConfig(
        kind=kind, widths=(width, 192), strides=(2, 2), kernels=(kernel, kernel), depths=(2,), window=hyper_window
    )
    return ImageConfig(transform, EntropyConfig(model="channelwise", hyper=hyper))


@register_model("mambavc")
def mambavc() -> ImageConfig:
    """MambaVC: VSS blocks, channel-wise autoregressive entropy model (Qin et al. 2024)."""
    return _codec("vss", 256, 3, 8)


@register_model("convvc")
def convvc() -> ImageConfig:
    """ConvVC: MambaVC's twin with GDN and 5x5 kernels (Qin et al. 2024, appendix A.2)."""
    return _codec("conv", 448, 5, 8)


@register_model("swinvc")
def swinvc() -> ImageConfig:
    """SwinVC: MambaVC's twin with Swin blocks, windows of 8 and 4 (Qin et al. 2024, appendix A.3)."""
    return _codec("swin", 256, 3, 4)


@register_model("mambaic")
def mambaic() -> ImageConfig:
    """MambaIC: VSS blocks also over the channel and checkerboard context (Zeng et al. 2025)."""
    config = mambavc()
    return replace(config, entropy=replace(config.entropy, model="context"))


@register_model("samic")
def samic() -> ImageConfig:
    """SAMIC: scans in semantic order and low-rank latents, light and meant for perceptual training."""
    transform = TransformConfig(
        kind="semantic", widths=(96, 160, 224, 320), kernels=(5, 3, 3, 3), depths=(2, 2, 4), clusters=16
    )
    hyper = TransformConfig(kind="vss", widths=(192, 192), strides=(2, 2), kernels=(3, 3), depths=(1,))
    context = ContextConfig(widths=(160, 96), attention=64)
    return ImageConfig(transform, EntropyConfig(model="channelwise", hyper=hyper, context=context))


def _small(kind: str, entropy: str = "channelwise") -> ImageConfig:
    """The same frame, narrow, beside a DCT of 16x16 and its inverse; with an adaptive coder."""
    transform = TransformConfig(
        kind=kind, widths=(48, 96, 128, 480), strides=(4, 2, 2, 1), kernels=(3, 1, 1, 1), depths=(1, 2, 2),
        sampling="shuffle", shortcut=True, fixed_shortcut=True, d_state=1, expand=1.0, mlp_ratio=2.0, clusters=8,
    )  # fmt: skip
    plain = kind if kind != "semantic" else "vss"  # no blocks that need routing
    hyper = TransformConfig(
        kind=plain, activation="relu", widths=(64, 64), strides=(2, 2), kernels=(1, 1), depths=(1,),
        sampling="shuffle", d_state=1, expand=1.0, window=4, mlp_ratio=2.0,
    )  # fmt: skip
    context = ContextConfig(
        slices=5, widths=(96, 64), kernel=1, attention=32, compressed=True, spatial_kernel=3, kind=plain, depth=1,
        block_width=96, d_state=1, expand=1.0, mlp_ratio=2.0,
    )  # fmt: skip
    entropy_config = EntropyConfig(
        model=entropy, hyper=hyper, distribution="laplace", adaptive=True, step=STEP, span=SPAN, fixed_steps=True,
        least_scale=0.25, dc_prediction=True, context=context,
    )  # fmt: skip
    return ImageConfig(transform, entropy_config, levels=LEVELS)


@register_model("mambavc-small")
def mambavc_small() -> ImageConfig:
    """MambaVC for the CPU: variable rate, VSS blocks at strides 4 to 16."""
    return _small("vss")


@register_model("convvc-small")
def convvc_small() -> ImageConfig:
    """The small MambaVC's twin with GDN."""
    return _small("conv")


@register_model("swinvc-small")
def swinvc_small() -> ImageConfig:
    """The small MambaVC's twin with Swin blocks."""
    return _small("swin")


@register_model("mambaic-small")
def mambaic_small() -> ImageConfig:
    """MambaIC for the CPU: the small MambaVC with VSS blocks over the context."""
    return _small("vss", "context")


@register_model("samic-small")
def samic_small() -> ImageConfig:
    """SAMIC for the CPU: variable rate, scans in semantic order."""
    return _small("semantic")
