"""What a linear analysis leaves to the encoder, and bounds of scales."""

import math

import torch
from torch import nn

from vcodec.entropy.checkerboard import CheckerboardHyperprior
from vcodec.entropy.coders import RateEstimator
from vcodec.entropy.config import EntropyConfig
from vcodec.entropy.latent_codec import CLOSED_LOOP_SHARE, Latents, closed_loop
from vcodec.layers.transform import Analysis, Synthesis, TransformConfig

LINEAR = TransformConfig(
    widths=(8, 48), strides=(2, 2), kernels=(1, 1), depths=(1,), sampling="shuffle", shortcut=True,
    fixed_shortcut=True, linear_analysis=True,
)  # fmt: skip


def test_the_share_of_what_the_synthesis_adds_by_itself_is_taken_off():
    torch.manual_seed(0)
    analysis, synthesis, x = Analysis(3, LINEAR).eval(), Synthesis(3, LINEAR).eval(), torch.rand(1, 3, 16, 24)
    nn.init.constant_(synthesis.stages[-1][0].bias, 0.1)  # the network adds a tenth everywhere

    def code(coder, y):
        return Latents(y, y), synthesis(y)

    with torch.no_grad():
        y = analysis(x)
        plain, closed = (synthesis(latents) for latents in (y, closed_loop(y, code, analysis)))
    assert torch.allclose(plain, x + 0.1, atol=1e-5)
    assert torch.allclose(closed, x + (1 - CLOSED_LOOP_SHARE) * 0.1, atol=1e-5)


def test_a_learned_analysis_and_training_are_left_alone():
    y = torch.rand(1, 48, 2, 2)
    learned = Analysis(3, TransformConfig(widths=(8, 48), strides=(2, 2), kernels=(1, 1), depths=(1,))).eval()
    assert closed_loop(y, None, learned) is y
    assert closed_loop(y, None, Analysis(3, LINEAR).train()) is y


def test_no_scale_is_below_the_least_one():
    config = EntropyConfig(
        model="checkerboard", hyper=TransformConfig(widths=(8, 8), strides=(2, 2), kernels=(3, 3), depths=(1,)),
        width=8, least_scale=0.25,
    )  # fmt: skip
    model = CheckerboardHyperprior(8, config, log_scale_start=torch.full((1, 8), -9.0))
    seen = []

    class Watching(RateEstimator):
        def code_latents(self, y, means, log_scales, *arguments, **options):
            seen.append(log_scales.min().item())
            return super().code_latents(y, means, log_scales, *arguments, **options)

    model.code(Watching(1, training=False), torch.rand(1, 8, 5, 7), (1, 8, 5, 7), torch.tensor([32.0]))
    assert len(seen) == 2
    assert all(math.isclose(scale, math.log(0.25), rel_tol=1e-6) for scale in seen)
