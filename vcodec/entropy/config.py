"""What an entropy model is built from."""

from dataclasses import dataclass, field

from ..layers.transform import TransformConfig


def _ssf_hyper() -> TransformConfig:
    return TransformConfig(widths=(192, 192, 192), strides=(2, 2, 2), kernels=(5, 5, 5), depths=(1, 1))


@dataclass(frozen=True)
class EntropyConfig:
    """model: a name of ENTROPY_MODELS. hyper: the hyper transforms' sizes, the last width being that of z.

    width: features of the context networks. context_width: of what they read of the first pass (0: the same).
    step, span: the quantisation step where quality is lowest, and how many times finer it starts at the highest
    (variable-rate models only).
    """

    model: str = "hyperprior"
    hyper: TransformConfig = field(default_factory=_ssf_hyper)
    width: int = 96
    context_width: int = 0
    step: float = 0.35
    span: float = 16.0
