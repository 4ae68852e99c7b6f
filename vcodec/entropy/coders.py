"""The three entropy coders a frame step can be handed: estimate the rate, write symbols, read symbols.

    RateEstimator   the encoder's symbols and their bits; in training differentiable, for a learned analysis by way of
                    noise
    SymbolEncoder   chooses (`rdo_quantize`) and collects real symbols; finish() gives the frame's bytes
    SymbolDecoder   reads the symbols from a frame's bytes; it is given no latents

A frame step calls the same methods of each in the same order, so encoder and decoder can't drift apart.

Which table codes a symbol depends on its log-scale, computed in float64 on both sides. Machines differ there by
about 1e-12; a position nearer than GUARD to a boundary of the grid is listed by the encoder with its level, so the
decoder never has to decide a close call (docs/bitstream.md, "Same symbols everywhere").
"""

from array import array
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ..errors import VcodecError
from .block_vectors import FieldMixer
from .context_mixing import ContextMixer, DCPrediction, Statistics
from .distributions import GAUSSIAN, Distribution
from .factorized import FactorizedPrior
from .gaussian import FIRST_CODED_LEVEL, SCALE_LEVELS, level_position
from .latent_maps import ChannelRange, from_map, hyper_map, latent_map, map_shape
from .rans import DAMAGED, RansDecoder, RansEncoder

GUARD = 1e-7

#: Rate-distortion optimised quantisation: bits that the squared error of one quantisation step is worth; 0 means plain
#: rounding. High-rate theory says 12 / (2 ln 2) = 8.7; on clips held out from training 6 to 10 differ by little.
RDOQ_PRICE = 8.0
#: The adaptive coder knows the bits better than the tables do; on four held-out clips its best price was 10, that is
#: so many times the one above.
ADAPTIVE_RDOQ = 1.25


class EntropyCoder(Protocol):
    """What a frame step needs of a coder."""

    def begin(self, stream: str | None, dc_prediction: DCPrediction = None) -> None:
        """What follows are the hyper latents and latents of this stream, adaptively coded; None: not adaptively.

        dc_prediction: of the latents, see `ContextMixer.begin`.
        """

    def code_factorized(self, prior: FactorizedPrior, z: Tensor | None, shape: tuple[int, ...], bank: Tensor) -> Tensor:
        """z_hat (integers) of the given shape (batch, channels, H, W); z is None when decoding."""

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        """y_hat = symbols + means, and the symbols; y is None when decoding.

        With a boolean mask (broadcast to y) only its positions are coded; elsewhere both results are zero. spacing: how
        far apart the neighbours are by which they are coded. channels: where y is but a slice of the latents' channels.
        """

    def code_fields(self, fields: Tensor | None, shape: tuple[int, int, int], previous: Tensor | None,
                    two: bool) -> Tensor:  # fmt: skip
        """Fields of block motion int16 (batch, 6, rows, columns), see `block_vectors`; None when decoding.

        shape: (batch, rows, columns); previous: the fields of the frame before, if there are any; two: whether there is
        an older picture to refer to: without one every MODE is NEWEST.
        """


class RateEstimator:
    """Differentiable rate. `bits` (batch,) grows with every call.

    The rate of latents is that of the symbols that are sent, and gradients are those of a given choice of symbols, so
    exact at the best choice. A learned analysis would get none so: the gradient of the rate that it gets in training
    is that of latents with noise in place of the rounding. Means and scales don't: a latent in the dead zone would cost
    bits that no encoder spends, and scales would grow to pay for them.

    Args: training: see above; generators: one a sample, for noise that does not depend on how a batch is split over
    machines (default: torch's global generator); rdoq: see RDOQ_PRICE.
    """

    def __init__(self, batch: int, *, training: bool, generators: Sequence[torch.Generator] | None = None,
                 device: torch.device | str = "cpu", rdoq: float = RDOQ_PRICE):  # fmt: skip
        self._rdoq = rdoq
        self.bits = torch.zeros(batch, device=device)
        self._training = training
        self._generators = generators

    def begin(self, stream: str | None, dc_prediction: DCPrediction = None) -> None:
        """The estimate is that of the tables: what adaptive coding will save is not known before."""

    def code_factorized(self, prior: FactorizedPrior, z: Tensor | None, shape: tuple[int, ...], bank: Tensor) -> Tensor:
        assert z is not None, "only a decoder works without latents"
        z = z.float()
        z_hat = _straight_through(z, z.round())
        self._add(prior.bits(z + self._noise(z) if self._training else z_hat, bank))
        return z_hat

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        assert y is not None, "only a decoder works without latents"
        y, means, log_scales = y.float(), means.float(), log_scales.float()
        residuals = y - means
        chosen = rdo_quantize(residuals, log_scales, self._rdoq, distribution)
        if not self._training:
            coded = level_position(log_scales) >= FIRST_CODED_LEVEL
            symbols = chosen * coded
            bits = distribution.bits(symbols, log_scales) * coded
        else:
            bits, symbols = distribution.bits(_straight_through(y.detach() - means, chosen), log_scales), chosen
            if y.requires_grad:
                residuals = y - means.detach()
                symbols = _straight_through(residuals, chosen)
                noisy = self._noisy_bits(residuals, chosen, log_scales.detach(), distribution)
                bits = bits + (noisy - noisy.detach())
        y_hat = symbols + means
        if mask is not None:
            bits, symbols, y_hat = bits * mask, symbols * mask, y_hat * mask
        self._add(bits)
        return y_hat, symbols

    def code_fields(self, fields: Tensor | None, shape: tuple[int, int, int], previous: Tensor | None,
                    two: bool) -> Tensor:  # fmt: skip
        assert fields is not None, "only a decoder works without fields"
        befores = [None] * len(fields) if previous is None else [_field(before) for before in previous]
        bits = [FieldMixer().bits(_field(field), before, two) for field, before in zip(fields, befores, strict=True)]
        self.bits = self.bits + torch.tensor(bits, device=self.bits.device)
        return fields

    def _noisy_bits(self, residuals: Tensor, chosen: Tensor, log_scales: Tensor, distribution: Distribution) -> Tensor:
        """The bits that residuals would take with noise in place of the rounding.

        Where the symbol was lowered they are those of what is sent, and pull no longer where that is zero.
        """
        lowered = chosen.abs() < residuals.detach().round().abs()
        sent = torch.where(lowered, _straight_through(residuals, chosen), residuals)
        return distribution.bits(sent + self._noise(residuals), log_scales)

    def _add(self, bits: Tensor) -> None:
        self.bits = self.bits + bits.flatten(1).sum(1)

    def _noise(self, like: Tensor) -> Tensor:
        if self._generators is None:
            return torch.rand_like(like) - 0.5
        samples = [torch.rand(like.shape[1:], generator=g, device=g.device) for g in self._generators]
        return torch.stack(samples).to(like.device) - 0.5


class _SymbolCoder:
    """What the writer and the reader of one frame share. statistics: what the group of pictures taught so far."""

    def __init__(self, statistics: Statistics | None = None) -> None:
        self.statistics = statistics.copy() if statistics is not None else Statistics()
        self._stream: str | None = None
        self._dc_prediction: DCPrediction = None
        self._begun: set[str] = set()

    def begin(self, stream: str | None, dc_prediction: DCPrediction = None) -> None:
        self._stream, self._dc_prediction = stream, dc_prediction

    def _field_mixer(self) -> FieldMixer:
        return self.statistics.field_mixer(f"{self._stream}/field")

    def _mixer(self, kind: str, shape: tuple[int, ...]) -> ContextMixer:
        """The mixer of the stream's latents or hyper latents, turned to this frame at its first use."""
        name = f"{self._stream}/{kind}"
        mixer = self.statistics.mixer(name)
        if name not in self._begun:
            self._begun.add(name)
            mixer.begin(shape, self._dc_prediction if kind == "y" else None)
        return mixer


class SymbolEncoder(_SymbolCoder):
    """Writes one frame (batch of one): `finish()` gives its bytes. rdoq: see RDOQ_PRICE.

    Afterwards `statistics` hold what the frame taught as well.
    """

    def __init__(self, rdoq: float = RDOQ_PRICE, statistics: Statistics | None = None) -> None:
        super().__init__(statistics)
        self._rdoq = rdoq
        self._rans = RansEncoder()
        self._exceptions: list[tuple[int, int]] = []  # (position in coding order, level)
        self._count = 0

    def code_factorized(self, prior: FactorizedPrior, z: Tensor | None, shape: tuple[int, ...], bank: Tensor) -> Tensor:
        assert z is not None, "an encoder is given the latents"
        symbols = torch.round(z.double()).clamp(-(2**31), 2**31 - 1)
        rows, tables = _factorized_rows(shape, bank), prior.frequency_tables()
        if self._stream is None:
            self._rans.push(_flat(symbols), _flat(rows), tables)
        else:
            self._mixer("z", map_shape(shape)).encode(hyper_map(rows, symbols), self._rans, tables)
        return symbols

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        assert y is not None, "an encoder is given the latents"
        position = _exact_position(log_scales)
        self._list_close_calls(position, mask)
        levels, coded = _levels(position, mask)
        residuals = (y.to(means.dtype) - means) * coded
        mixer = None if self._stream is None else self._mixer("y", map_shape(y.shape, channels))
        chooses = mixer is not None and mixer.chooses and self._rdoq > 0
        quantized = rdo_quantize(residuals, log_scales, 0 if chooses else self._rdoq, distribution)
        symbols = quantized.clamp(-(2**30), 2**30).to(torch.int32)
        if mixer is None:
            self._rans.push(_flat(symbols[coded]), _flat(levels[coded]), distribution.tables())
        else:
            exact, price = residuals if chooses else None, ADAPTIVE_RDOQ * self._rdoq
            part = latent_map(levels, coded, spacing, channels, symbols, exact, price)
            known = mixer.encode(part, self._rans, distribution.tables())
            symbols = from_map(known, y.shape[1], channels).to(coded.device) * coded
        return _decoded(symbols, means, mask)

    def code_fields(self, fields: Tensor | None, shape: tuple[int, int, int], previous: Tensor | None,
                    two: bool) -> Tensor:  # fmt: skip
        assert fields is not None, "an encoder is given the fields"
        before = None if previous is None else _field(previous[0])
        known = self._field_mixer().encode(_field(fields[0]), before, two, self._rans)
        return torch.from_numpy(known)[None]

    def _list_close_calls(self, position: Tensor, mask: Tensor | None) -> None:
        """Notes positions on a boundary by their number among all that were coded, with their levels."""
        nearest = position.round()
        close = ((position - nearest).abs() < GUARD) & (nearest > 0)
        if mask is not None:
            close = close & mask
        if close.any():
            places, levels = close.reshape(-1).nonzero()[:, 0], position.floor()[close]
            numbers = places if mask is None else mask.expand(close.shape).reshape(-1).cumsum(0)[places] - 1
            self._exceptions += [
                (self._count + number, int(level))
                for number, level in zip(numbers.tolist(), levels.tolist(), strict=True)
            ]
        self._count += _number(position, mask)

    def finish(self) -> bytes:
        """The frame's bytes: the list of close calls (usually one zero byte), then the symbols."""
        symbols = self._rans.finish()
        if not self._exceptions and not symbols:
            return b""
        head, last = _varint(len(self._exceptions)), 0
        for index, level in self._exceptions:
            head += _varint(index - last) + bytes([level])
            last = index
        return head + symbols


class SymbolDecoder(_SymbolCoder):
    """Reads one frame (batch of one) from the bytes of `SymbolEncoder.finish()`, given the statistics it was given.

    Raises VcodecError when the bytes are damaged.
    """

    def __init__(self, data: bytes, statistics: Statistics | None = None):
        super().__init__(statistics)
        places, levels = array("q"), array("B")
        place, position = 0, 0
        if data:
            count, position = _read_varint(data, 0)
            for _ in range(count):
                step, position = _read_varint(data, position)
                if position >= len(data) or data[position] >= SCALE_LEVELS:
                    raise VcodecError(DAMAGED)
                place += step
                places.append(place)
                levels.append(data[position])
                position += 1
        self._close_calls = np.array(places, np.int64), np.array(levels, np.int32)
        self._rans = RansDecoder(data[position:])
        self._count = 0

    def code_factorized(self, prior: FactorizedPrior, z: Tensor | None, shape: tuple[int, ...], bank: Tensor) -> Tensor:
        rows, tables = _factorized_rows(shape, bank), prior.frequency_tables()
        if self._stream is None:
            symbols = torch.from_numpy(self._rans.pull(_flat(rows), tables)).reshape(shape)
        else:
            symbols = from_map(self._mixer("z", map_shape(shape)).decode(hyper_map(rows), self._rans, tables), shape[1])
        return symbols.to(bank.device, torch.float64, memory_format=torch.contiguous_format)

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        levels, coded = _levels(self._without_close_calls(_exact_position(log_scales), mask), mask)
        if self._stream is None:
            symbols = torch.zeros(coded.shape, dtype=torch.int32, device=coded.device)
            pulled = self._rans.pull(_flat(levels[coded]), distribution.tables())
            symbols[coded] = torch.from_numpy(pulled).to(coded.device)
        else:
            mixer = self._mixer("y", map_shape(means.shape, channels))
            part = latent_map(levels, coded, spacing, channels)
            known = mixer.decode(part, self._rans, distribution.tables())
            symbols = from_map(known, means.shape[1], channels).to(coded.device) * coded
        return _decoded(symbols, means, mask)

    def code_fields(self, fields: Tensor | None, shape: tuple[int, int, int], previous: Tensor | None,
                    two: bool) -> Tensor:  # fmt: skip
        before = None if previous is None else _field(previous[0])
        return torch.from_numpy(self._field_mixer().decode(*shape[1:], before, two, self._rans))[None]

    def _without_close_calls(self, position: Tensor, mask: Tensor | None) -> Tensor:
        """The positions with those that the encoder listed set to their levels."""
        places, listed = self._close_calls
        number = _number(position, mask)
        here = slice(*np.searchsorted(places, [self._count, self._count + number]))
        if here.start < here.stop:
            numbers = torch.from_numpy(places[here] - self._count).to(position.device)
            where = numbers if mask is None else mask.expand(position.shape).reshape(-1).nonzero()[:, 0][numbers]
            position = position.put(where, torch.from_numpy(listed[here]).to(position))
        self._count += number
        return position

    def finish(self) -> None:
        """Raises VcodecError unless the bytes were used up exactly."""
        self._rans.finish()


def rdo_quantize(residuals: Tensor, log_scales: Tensor, price: float, distribution: Distribution = GAUSSIAN) -> Tensor:
    """The integers nearest to residuals (y - means), or one nearer to zero where that saves more bits than it costs.

    Any shape; price: see RDOQ_PRICE. A choice of the encoder: decoders take what comes.
    """
    symbols = residuals.detach().round()
    if not price:
        return symbols
    if isinstance(symbols, FakeTensor):  # operations are being counted, on tensors without values
        return _better_bargain(symbols, residuals, log_scales, price, distribution)
    where = symbols.flatten().nonzero()[:, 0]  # few: the rest is zero already
    nearest, exact, scales = (x.detach().flatten()[where] for x in (symbols, residuals, log_scales))
    chosen = _better_bargain(nearest, exact, scales, price, distribution)
    return symbols.flatten().index_copy(0, where, chosen).view_as(symbols)


def _better_bargain(
    nearest: Tensor, residuals: Tensor, log_scales: Tensor, price: float, distribution: Distribution
) -> Tensor:
    lower = nearest - nearest.sign()
    scales = log_scales.to(nearest.dtype)
    saved = distribution.bits(nearest, scales) - distribution.bits(lower, scales)
    cost = price * ((residuals - lower).square() - (residuals - nearest).square())
    return torch.where(saved > cost, lower, nearest)


def _straight_through(x: Tensor, chosen: Tensor) -> Tensor:
    """The chosen values with the gradient of x."""
    return x + (chosen - x).detach()


def _factorized_rows(shape: tuple[int, ...], bank: Tensor) -> Tensor:
    """The table row of each hyper latent (1, C, H, W)."""
    rows = torch.arange(shape[1], dtype=torch.int32) + int(bank[0]) * shape[1]
    return rows[:, None, None].expand(shape)


def _exact_position(log_scales: Tensor) -> Tensor:
    assert log_scales.dtype == torch.float64, "scales are exact: the entropy path runs in float64"
    return level_position(log_scales)


def _levels(position: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The levels (uint8) of all positions, and which of them are coded."""
    levels = position.to(torch.uint8)  # positions are not negative, so this is their floor
    coded = levels >= FIRST_CODED_LEVEL
    return levels, coded if mask is None else coded & mask


def _number(position: Tensor, mask: Tensor | None) -> int:
    """How many positions a pass has."""
    return position.numel() if mask is None else int(mask.expand(position.shape).count_nonzero())


def _decoded(symbols: Tensor, means: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """y_hat and symbols, both zero outside of the mask, where symbols are already."""
    # One layout in encoder and decoder, or convolutions might round differently.
    symbols = symbols.to(means.dtype, memory_format=torch.channels_last)
    y_hat = symbols + means
    return (y_hat if mask is None else y_hat * mask), symbols


def _field(field: Tensor) -> np.ndarray:
    return field.cpu().contiguous().numpy()


def _flat(symbols: Tensor) -> np.ndarray:
    return symbols.to("cpu", torch.int32).reshape(-1).numpy()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number, shift = 0, 0
    while position < len(data) and shift < 35:
        number |= (data[position] & 127) << shift
        position, shift = position + 1, shift + 7
        if data[position - 1] < 128:
            return number, position
    raise VcodecError(DAMAGED)
