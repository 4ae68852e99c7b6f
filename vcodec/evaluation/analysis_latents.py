"""What is left in the latents: correlation between neighbours, distance from the normal distribution, quantisation.

The analyses of MambaVC, section 4.6. Each takes tensors, so that it can be checked on ones with a known answer;
`record_latents` gives those of a model.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..entropy.coders import RateEstimator
from ..entropy.distributions import GAUSSIAN, Distribution
from ..entropy.factorized import FactorizedPrior
from ..entropy.gaussian import LOG_SCALE_MIN
from ..entropy.latent_maps import ChannelRange
from ..iframe import ImageCodec, pad_to_multiple


@dataclass(frozen=True)
class Latents:
    """The latents of a picture: y and y_hat (1, channels, h, w) as transforms see them; normalized = (y - mean) /
    scale as the entropy model does; z (1, channels, h', w'); bits of the picture.
    """

    y: Tensor
    y_hat: Tensor
    normalized: Tensor
    z: Tensor
    bits: float


@torch.inference_mode()
def record_latents(codec: ImageCodec, x: Tensor, quality: float) -> Latents:
    """Codes a picture x (1, 3, H, W) in [0, 1] and keeps what the entropy coder was given."""
    level = torch.full((1,), float(quality), device=x.device)
    y = codec.analysis(pad_to_multiple(x - 0.5, codec.stride), level)
    recorder = LatentRecorder()
    y_hat = codec.latent_codec.code(recorder, y, tuple(y.shape), level).y_hat
    return Latents(y.float(), y_hat, recorder.normalized(), recorder.z[0], float(recorder.bits))


@dataclass
class _Part:
    normalized: Tensor
    missing: Tensor | None


class LatentRecorder(RateEstimator):
    """A rate estimator that keeps the normalised latents and z of the one picture it is given."""

    def __init__(self) -> None:
        super().__init__(1, training=False)
        self.z: list[Tensor] = []
        self._parts: list[_Part] = []

    def code_factorized(self, prior: FactorizedPrior, z: Tensor | None, shape: tuple[int, ...], bank: Tensor) -> Tensor:
        assert z is not None
        self.z.append(z.detach().float())
        return super().code_factorized(prior, z, shape, bank)

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        assert y is not None
        normalized = ((y.float() - means) * torch.exp(-log_scales.clamp_min(LOG_SCALE_MIN))).detach().float()
        last = self._parts[-1] if self._parts else None
        if mask is None:
            self._parts.append(_Part(normalized, None))
        elif last is not None and last.missing is not None:  # a later pass over the same latents
            missing = last.missing & ~mask
            self._parts[-1] = _Part(torch.where(mask, normalized, last.normalized), missing if missing.any() else None)
        else:
            self._parts.append(_Part(normalized, ~mask))
        return super().code_latents(y, means, log_scales, mask, distribution, spacing, channels)

    def normalized(self) -> Tensor:
        """(y - means) / scales (1, channels, h, w) of all slices and passes."""
        return torch.cat([part.normalized for part in self._parts], dim=1)


@dataclass
class SpatialCorrelation:
    """Cross-correlation of a map with itself moved by up to `reach` places, over all channels, places and pictures.

    matrix[reach + i, reach + j] is that of places (x, y) and (x + i, y + j), 1 at the centre (figures 5 and 14).
    """

    reach: int = 4
    _products: Tensor = field(init=False)
    _squares: Tensor = field(init=False)

    def __post_init__(self) -> None:
        side = 2 * self.reach + 1
        self._products = torch.zeros(side, side, dtype=torch.float64)
        self._squares = torch.zeros(side, side, dtype=torch.float64)

    def add(self, maps: Tensor) -> None:
        """maps (batch, channels, h, w); an offset that a small map does not have is left out."""
        maps = maps.double()
        height, width = maps.shape[2:]
        for i in range(-self.reach, self.reach + 1):
            for j in range(-self.reach, self.reach + 1):
                if abs(i) >= height or abs(j) >= width:
                    continue
                here = maps[:, :, max(0, -i) : height - max(0, i), max(0, -j) : width - max(0, j)]
                there = maps[:, :, max(0, i) : height + min(0, i), max(0, j) : width + min(0, j)]
                self._products[self.reach + i, self.reach + j] += (here * there).sum()
                self._squares[self.reach + i, self.reach + j] += (here.square().sum() * there.square().sum()).sqrt()

    @property
    def matrix(self) -> Tensor:
        return self._products / self._squares.clamp_min(1e-300)

    @property
    def mean_off_centre(self) -> float:
        """The mean of |correlation| over all offsets but the centre."""
        magnitudes = self.matrix.abs()
        return float((magnitudes.sum() - magnitudes[self.reach, self.reach]) / (magnitudes.numel() - 1))


@dataclass
class LatentHistogram:
    """Histogram of normalised latents and how far it is from the standard normal distribution (figure 6)."""

    limit: float = 8.0
    bins: int = 160
    counts: Tensor = field(init=False)
    outside: int = 0

    def __post_init__(self) -> None:
        self.counts = torch.zeros(self.bins, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        flat = values.reshape(-1).float()
        inside = flat[flat.abs() <= self.limit]
        self.outside += flat.numel() - inside.numel()
        self.counts += torch.histc(inside, self.bins, -self.limit, self.limit).double()

    @property
    def edges(self) -> Tensor:
        return torch.linspace(-self.limit, self.limit, self.bins + 1, dtype=torch.float64)

    @property
    def density(self) -> Tensor:
        return self.counts / self.counts.sum() / (2 * self.limit / self.bins)

    @property
    def kl_divergence(self) -> float:
        """KL(histogram || N(0, 1)) in nats; values beyond the limit, counted in `outside`, do not enter."""
        shares = self.counts / self.counts.sum()
        tail = torch.exp(torch.special.log_ndtr(-self.edges.abs()))  # the small side, which keeps its digits
        normal = torch.where(self.edges[:-1] >= 0, -tail.diff(), tail.diff())
        crossing = (self.edges[:-1] < 0) & (self.edges[1:] > 0)
        normal = torch.where(crossing, 1 - tail[:-1] - tail[1:], normal).clamp_min(1e-300)
        filled = shares > 0
        return float((shares[filled] * (shares[filled] / normal[filled]).log()).sum())


def deviation_map(y: Tensor, y_hat: Tensor) -> Tensor:
    """The scaled quantisation deviation (h, w): mean over the channels of |y - y_hat|, over the mean of |y|.

    MambaVC, figure 8, after Xie et al. 2021, who leave the scale to the reader: dividing by the mean magnitude makes
    latents of different models comparable.
    """
    return (y - y_hat).abs().mean(dim=1)[0] / y.abs().mean().clamp_min(1e-12)


def whiten_channels(maps: list[Tensor]) -> list[Tensor]:
    """(z - mean) / deviation of each channel over all pictures, for the hyper latents (figure 14)."""
    flat = torch.cat([m.flatten(2).transpose(0, 1).flatten(1) for m in maps], dim=1)
    mean, deviation = flat.mean(1)[None, :, None, None], flat.std(1)[None, :, None, None]
    alive = deviation > 1e-6
    return [torch.where(alive, (m - mean) / deviation.clamp_min(1e-6), torch.zeros_like(m)) for m in maps]


def normal_density(edges: Tensor) -> Tensor:
    """The standard normal density at the middle of each bin."""
    middle = (edges[1:] + edges[:-1]) / 2
    return torch.exp(-0.5 * middle.square()) / math.sqrt(2 * math.pi)


def enlarge(map: Tensor, factor: int) -> Tensor:
    """A map (h, w) with every place repeated, to lie over the picture."""
    return F.interpolate(map[None, None], scale_factor=factor, mode="nearest")[0, 0]
