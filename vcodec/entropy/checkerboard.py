"""A hyperprior with passes over the latents, each reading those before: spatial and channel context."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.asinh import asinh
from ..layers.transform import Synthesis
from .coders import EntropyCoder
from .config import EntropyConfig
from .hyperprior import CodedLatents, EntropyModel, run


class CheckerboardHyperprior(EntropyModel):
    """Half of the latents first, the rest given these (He et al. 2021; dual arrangement of Li et al. 2022).

    The first pass codes the first half of the channels on the black fields and the second half on the white ones,
    so every later latent has coded neighbours in space and at its own place in the other channels.

        z_hat -> mean features  (+ condition) -> means 1,  with y_hat of pass 1   -> means 2   (float32)
        z_hat -> scale features               -> scales 1, with symbols of pass 1 -> scales 2  (float64 when coding)

    With four passes and more (`pass_masks`) the black fields are themselves coded from coarse to fine, so that few
    latents have no coded neighbours; each later pass has networks of its own, which read what all passes before coded.

    Exact side information may inform the scales of the first pass, and by their features those of the second.
    A temporal model reads the frame before as well: its y_hat for the means, its symbols, being exact, for the scales.
    A linear one adds to the means 2 a filter of the neighbours' symbols, being their distance from means 1, and where
    temporal too to the means 1 a map of the y_hat before: networks alone don't hold a displacement of 100 steps to the
    nearest one.
    """

    def __init__(self, latents: int, config: EntropyConfig, levels: int = 0, condition_channels: int = 0,
                 log_scale_start: Tensor | None = None):  # fmt: skip
        super().__init__(latents, config, levels, condition_channels, log_scale_start)
        if config.passes < 2 or config.passes % 2:
            raise ValueError(f"latents are coded in 2, 4, 6 or more passes, two at a time, not {config.passes}")
        self.mean_synthesis = Synthesis(config.width, config.hyper)
        self.scale_synthesis = Synthesis(config.width, config.hyper)
        history = latents if config.temporal else 0
        self.mean_head = _PassHeads(latents, config, condition_channels + history)
        self.scale_head = _PassHeads(latents, config, history + config.side)
        self.linear_neighbours = _neighbours(latents, 0.25 if config.temporal else 0.0) if config.linear else None
        self.linear_past = _proportion(latents) if config.linear and config.temporal else None
        middle = [_spacing(config.passes, number) for number in range(1, config.passes - 1)]
        self.middle_means = nn.ModuleList(_ContextHead(latents, config, spacing) for spacing in middle)
        self.middle_scales = nn.ModuleList(_ContextHead(latents, config, spacing) for spacing in middle)
        self.middle_neighbours = nn.ModuleList(_around_dc(latents, spacing) for spacing in middle)

    def exact_modules(self) -> list[nn.Module]:
        return [self.scale_synthesis, self.scale_head, self.middle_scales]

    def _code_latents(self, coder: EntropyCoder, y: Tensor | None, z_hat: Tensor, shape: tuple[int, ...],
                      quality: Tensor, condition: Tensor | None, previous: CodedLatents | None,
                      side: Tensor | None) -> CodedLatents:  # fmt: skip
        masks = pass_masks(shape, z_hat.device, self.config.passes)
        mean_features = run(self.mean_synthesis, z_hat, shape)
        scale_features = run(self.scale_synthesis, z_hat, shape)

        past_means, past_scales = self._history(previous, mean_features, scale_features)
        means, hidden = self.mean_head.first(mean_features, [condition, past_means])
        if self.linear_past is not None:
            means = means + self.linear_past(torch.zeros_like(means) if previous is None else previous.y_hat.float())
        log_scales, _ = self.scale_head.first(scale_features, [past_scales, self._side(side, scale_features)])
        log_scales = self._base_log_scales(quality) + log_scales
        spacing = _spacing(self.config.passes, 0)
        y_hat, symbols = coder.code_latents(y, means, self._bounded(log_scales), masks[0], self.distribution, spacing)
        distances = symbols  # from the means of the first pass
        for number, mask in enumerate(masks[1:-1]):
            better = means + self.middle_means[number](hidden, asinh(y_hat))
            better = better + self.middle_neighbours[number](distances.float())
            surer = self.middle_scales[number](scale_features, _magnitude(symbols, log_scales))
            surer, spacing = self._bounded(log_scales + surer), _spacing(self.config.passes, number + 1)
            more = coder.code_latents(y, better, surer, mask, self.distribution, spacing)
            y_hat, symbols = y_hat + more[0], symbols + more[1]
            distances = distances + (more[0] - means) * mask

        means = means + self.mean_head(hidden, y_hat)
        if self.linear_neighbours is not None:
            means = means + self.linear_neighbours(distances.float())
        log_scales = self._bounded(log_scales + self.scale_head(scale_features, _magnitude(symbols, log_scales)))
        rest = coder.code_latents(y, means, log_scales, masks[-1], self.distribution)
        return CodedLatents(y_hat + rest[0], symbols + rest[1])

    def _side(self, side: Tensor | None, like: Tensor) -> Tensor | None:
        """The side information, zeros where there is none."""
        if not self.config.side:
            return None
        return like.new_zeros(len(like), self.config.side, *like.shape[2:]) if side is None else side.to(like.dtype)

    def _history(self, previous: CodedLatents | None, mean_features: Tensor,
                 scale_features: Tensor) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
        """What the frame before tells the means and the scales: nothing at all, or nothing yet, being zeros."""
        if not self.config.temporal:
            return None, None
        if previous is None:
            batch, _, height, width = mean_features.shape
            nothing = mean_features.new_zeros(batch, self.latents, height, width)
            return nothing, nothing.to(scale_features.dtype)
        assert previous.symbols is not None
        return asinh(previous.y_hat).to(mean_features.dtype), _magnitude(previous.symbols, scale_features)


class _ContextHead(nn.Module):
    """The small network by which a later pass reads those before; its last layer starts at zero.

    spacing: how far apart the places are that are known already.
    """

    def __init__(self, latents: int, config: EntropyConfig, spacing: int = 1):
        super().__init__()
        width, inner = config.width, config.context_width or config.width
        self.context = nn.Sequential(
            nn.Conv2d(latents, inner, 1), nn.LeakyReLU(0.1),
            nn.Conv2d(inner, inner, 3, padding=spacing, dilation=spacing),
        )  # fmt: skip
        self.second_hidden = nn.Conv2d(width + inner, width, 1)
        self.second_out = _from_zero(nn.Conv2d(width, latents, 1))

    def forward(self, hidden: Tensor, context: Tensor) -> Tensor:
        joined = torch.cat([hidden, self.context(context)], dim=1)
        return self.second_out(F.leaky_relu(self.second_hidden(F.leaky_relu(joined, 0.1)), 0.1))


class _PassHeads(_ContextHead):
    """The small networks of the first pass, and the last pass's."""

    def __init__(self, latents: int, config: EntropyConfig, condition_channels: int):
        super().__init__(latents, config)
        self.join = nn.Conv2d(config.width + condition_channels, config.width, 1)
        self.first_out = _from_zero(nn.Conv2d(config.width, latents, 1))

    def first(self, features: Tensor, conditions: list[Tensor | None]) -> tuple[Tensor, Tensor]:
        given = [condition.to(features.dtype) for condition in conditions if condition is not None]
        hidden = F.leaky_relu(self.join(torch.cat([features, *given], dim=1)), 0.1)
        return self.first_out(hidden), hidden


def _from_zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _neighbours(channels: int, share: float) -> nn.Conv2d:
    """A filter of 3x3 for each channel by itself, at the start this share of each of the four neighbours."""
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    return _filter_of((share * cross).expand(channels, 1, 3, 3))


def _around_dc(channels: int, spacing: int) -> nn.Conv2d:
    """The same between places of this spacing, of which four are known, at the start for the first channel alone."""
    start = torch.zeros(channels, 1, 3, 3)
    start[0], start[0, 0, 1, 1] = 0.25, 0.0
    return _filter_of(start, spacing)


def _filter_of(start: Tensor, spacing: int = 1) -> nn.Conv2d:
    channels = len(start)
    filter = nn.Conv2d(channels, channels, 3, padding=spacing, dilation=spacing, groups=channels, bias=False)
    with torch.no_grad():
        filter.weight.copy_(start)
    return filter


def _proportion(channels: int) -> nn.Conv2d:
    """A linear map of the channels, at the start half of each."""
    linear = nn.Conv2d(channels, channels, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(0.5 * torch.eye(channels)[:, :, None, None])
    return linear


def _magnitude(symbols: Tensor, like: Tensor) -> Tensor:
    """log(1 + |symbols|) in the precision of `like`: exact symbols stay exact enough for scales in float64."""
    return torch.log1p(symbols.abs().to(like.dtype))


def pass_masks(shape: tuple[int, ...], device: torch.device, passes: int = 2) -> list[Tensor]:
    """Which latents each pass codes: boolean (1, channels, H, W), together all.

    Two passes: black and white fields. With two passes more, the black fields of even rows are a board of twice the
    spacing, coded in the passes before; the black fields of odd rows, which lie between, come next, the white ones
    last. The second half of the channels uses the board moved by one column.
    """
    _, channels, height, width = shape
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width + 1, device=device)
    order = _pass_of(rows, columns, passes)
    order = torch.stack([order[:, :width], order[:, 1:]]).to(torch.int16)
    halves = (torch.arange(channels, device=device) >= channels // 2).long()
    order = order[halves][None].contiguous(memory_format=torch.channels_last)  # as the latents lie
    return [order == number for number in range(passes)]


def _pass_of(rows: Tensor, columns: Tensor, passes: int) -> Tensor:
    white = (rows + columns) % 2
    if passes == 2:
        return white
    between = torch.where(rows % 2 == 1, passes - 2, _pass_of(rows // 2, columns // 2, passes - 2))
    return torch.where(white == 1, passes - 1, between)


def _spacing(passes: int, number: int) -> int:
    """How far apart the latents are that a pass reads and codes."""
    return int(2 ** ((passes - 1 - number) // 2))
