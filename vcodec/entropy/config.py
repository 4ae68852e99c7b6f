"""What an entropy model is built from."""

from dataclasses import dataclass, field

from ..layers.transform import TransformConfig


def _ssf_hyper() -> TransformConfig:
    return TransformConfig(widths=(192, 192, 192), strides=(2, 2, 2), kernels=(5, 5, 5), depths=(1, 1))


@dataclass(frozen=True)
class ContextConfig:
    """The networks of the channel-wise entropy models ("channelwise", "context").

    slices: groups of channels, coded one after another. widths: of the inner layers of each slice's convolutions, which
    are 3x3, but the first (kernel). attention: width of the window attention, 0 for none; window, head_width: its
    sizes. channel: whether a slice reads the slices before it; compressed: through asinh, for models of variable rate,
    whose latents grow with the quality.
    The rest is for "context" alone: spatial, whether each slice is coded as a checkerboard in two passes;
    spatial_kernel, of the convolution over the first pass; kind ("vss" | "swin" | "conv") and depth of the blocks over
    the context, d_state, expand and mlp_ratio, and block_width, the channels that the context is brought to for them, 0
    for all of it.
    """

    slices: int = 5
    widths: tuple[int, ...] = (224, 128)
    kernel: int = 3
    attention: int = 128
    window: int = 8
    head_width: int = 16
    channel: bool = True
    compressed: bool = False
    spatial: bool = True
    spatial_kernel: int = 5
    kind: str = "vss"
    depth: int = 2
    block_width: int = 0
    d_state: int = 16
    expand: float = 2.0
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        if not self.kernel % 2 or not self.spatial_kernel % 2:
            raise ValueError("kernels of the context have odd sizes")


@dataclass(frozen=True)
class EntropyConfig:
    """model: a name of ENTROPY_MODELS. hyper: the hyper transforms' sizes, the last width being that of z.

    width: features of the context networks. context_width: of what they read of the first pass (0: the same).
    temporal: whether the latents of the frame before inform the means, and their symbols the scales ("checkerboard").
    linear: whether the means also follow their context in proportion: neighbours of the first pass and, in a temporal
    model, the latents of the frame before ("checkerboard"); for latents as large and as smooth as motion.
    distribution: of the latents around their means, a name of DISTRIBUTIONS ("gaussian" | "laplace").
    adaptive: whether the coder learns from what it coded before in the group of pictures, by context mixing.
    step, span: the quantisation step where quality is lowest, and how many times finer it starts at the highest
    (variable-rate models only); fixed_steps: whether they stay so.
    least_scale: below which no scale goes, so that networks are never too sure of a zero; an adaptive coder finds out
    what it is sure of.
    side: channels of exact side information, the same on every machine, that informs the scales: of the residual, what
    the block motion tells ("checkerboard").
    passes: in which latents are coded, from coarse to fine: 2, 4, 6 ... ("checkerboard").
    dc_prediction: whether an adaptive coder predicts the first channel of the first pass from what it coded around, and
    learns the lengths of large numbers; for latents whose first channel is a DC.
    context: the networks of the channel-wise models.
    """

    model: str = "hyperprior"
    hyper: TransformConfig = field(default_factory=_ssf_hyper)
    width: int = 96
    context_width: int = 0
    temporal: bool = False
    linear: bool = False
    distribution: str = "gaussian"
    adaptive: bool = False
    step: float = 0.35
    span: float = 16.0
    fixed_steps: bool = False
    least_scale: float = 0.0
    side: int = 0
    passes: int = 2
    dc_prediction: bool = False
    context: ContextConfig = field(default_factory=ContextConfig)
