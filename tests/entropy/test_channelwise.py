"""The channel-wise models: what was written is read, adaptively or not, and slices share one map of contexts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from round_trip import check_round_trip

from vcodec.entropy.channelwise import ChannelwiseHyperprior
from vcodec.entropy.coders import RateEstimator, SymbolEncoder
from vcodec.entropy.config import ContextConfig, EntropyConfig
from vcodec.entropy.distributions import LAPLACE
from vcodec.entropy.latent_codec import ENTROPY_MODELS
from vcodec.entropy.latent_maps import ChannelRange
from vcodec.layers.transform import TransformConfig

CONFIG = EntropyConfig(
    hyper=TransformConfig(kind="conv", widths=(8, 8), strides=(2, 2), kernels=(3, 3), depths=(1,)),
    adaptive=True,
    dc_prediction=True,
    least_scale=0.25,
    context=ContextConfig(slices=3, widths=(8,), attention=0, kind="conv", depth=1),
)


def model_of(config: EntropyConfig) -> ChannelwiseHyperprior:
    torch.manual_seed(0)
    model = ENTROPY_MODELS[config.model](6, config, log_scale_start=torch.zeros(1, 6))
    assert isinstance(model, ChannelwiseHyperprior)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.stream = "here" if config.adaptive else None
    model.prior.update()
    return model.eval()


@pytest.mark.parametrize("name", ["channelwise", "context"])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_what_was_written_is_read_and_takes_no_more_than_was_estimated(name, adaptive, spatial, size):
    context = replace(CONFIG.context, spatial=spatial)
    model = model_of(replace(CONFIG, model=name, adaptive=adaptive, dc_prediction=adaptive, context=context))
    check_round_trip(model, size)


def test_slices_know_the_symbols_of_those_before():
    """A slice costs less when it is busy where the one before was than when it is busy elsewhere."""
    torch.manual_seed(1)
    here, elsewhere = (torch.where(torch.rand(1, 1, 24, 24) < 0.1, 2.0, 0.0).double() for _ in range(2))

    def size(slices: list[torch.Tensor]) -> int:
        encoder = SymbolEncoder(rdoq=0)
        encoder.begin("latents")
        for number, y in enumerate(slices):
            scales = torch.full_like(y, -1.0)
            within = ChannelRange(number, 2)
            encoder.code_latents(y, torch.zeros_like(y), scales, distribution=LAPLACE, channels=within)
        return len(encoder.finish())

    assert size([here, here]) - size([here]) < 0.6 * (size([elsewhere, here]) - size([elsewhere]))


def test_the_bytes_of_slices_never_change():
    encoder, random = SymbolEncoder(rdoq=0), np.random.default_rng(5)
    encoder.begin("here", "raster")
    for first in (0, 3, 6):
        y = torch.from_numpy(random.integers(-3, 4, (1, 3, 3, 4))).double()
        scales = torch.full_like(y, 0.5)
        encoder.code_latents(y, torch.zeros_like(y), scales, distribution=LAPLACE, channels=ChannelRange(first, 9))
    assert encoder.finish().hex() == (
        "0005c28e2d0af153e287009df40cb81b57e9bbde6e8f6d04fc07304faf70ff782d45f36e71ac06545f61fb7feca97cd91889"
    )


def test_no_scale_goes_below_the_least():
    seen = []

    class Watching(RateEstimator):
        def code_latents(self, y, means, log_scales, *arguments, **options):
            seen.append(log_scales.min())
            return super().code_latents(y, means, log_scales, *arguments, **options)

    model = model_of(replace(CONFIG, model="channelwise"))
    model.log_scale_table.data.fill_(-9.0)
    with torch.inference_mode():
        model.code(Watching(1, training=False), torch.zeros(1, 6, 4, 4), (1, 6, 4, 4), torch.tensor([32.0]))
    assert len(seen) == 3
    assert min(seen) == pytest.approx(-1.3863, abs=1e-3)
