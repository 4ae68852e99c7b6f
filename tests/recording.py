"""Looking over a decoder's shoulder: the scale levels it used and the symbols it read, in coding order."""

import zlib
from collections.abc import Iterable
from unittest import mock

import numpy as np
import torch

from vcodec.bitstream import Packet
from vcodec.codec import Decoder
from vcodec.entropy import coders
from vcodec.entropy.context_mixing import Statistics
from vcodec.entropy.distributions import GAUSSIAN
from vcodec.entropy.gaussian import level_position
from vcodec.models import ImageModel
from vcodec.models.model import Reference
from vcodec.video import VideoFormat


class RecordingDecoder(coders.SymbolDecoder):
    """Remembers symbols and levels; hands the same symbols to an encoder and so gets the payload once more."""

    def __init__(self, data: bytes, statistics: Statistics | None = None):
        super().__init__(data, statistics)
        self.symbols: list[np.ndarray] = []
        self.levels: list[np.ndarray] = []
        self.encoder = coders.SymbolEncoder(rdoq=0, statistics=statistics)  # symbols as they are

    def begin(self, stream, dc_prediction=None):
        super().begin(stream, dc_prediction)
        self.encoder.begin(stream, dc_prediction)

    def code_factorized(self, prior, z, shape, bank):
        z_hat = super().code_factorized(prior, z, shape, bank)
        self.encoder.code_factorized(prior, z_hat, shape, bank)
        self.symbols.append(z_hat.numpy().astype(np.int32))
        return z_hat

    def code_latents(self, y, means, log_scales, mask=None, distribution=GAUSSIAN, spacing=1, channels=None):
        y_hat, symbols = super().code_latents(y, means, log_scales, mask, distribution, spacing, channels)
        self.encoder.code_latents(symbols + means, means, log_scales, mask, distribution, spacing, channels)
        self.symbols.append(symbols.numpy().astype(np.int32))
        self.levels.append(level_position(log_scales).floor().numpy().astype(np.int32))
        return y_hat, symbols

    def code_fields(self, fields, shape, previous, two):
        fields = super().code_fields(fields, shape, previous, two)
        self.encoder.code_fields(fields, shape, previous, two)
        self.symbols.append(fields.numpy().astype(np.int32))
        return fields


def record(decoder: Decoder, packet: Packet) -> RecordingDecoder:
    """Decodes a packet and gives what was seen."""
    seen = []

    def recording(*arguments) -> RecordingDecoder:
        seen.append(RecordingDecoder(*arguments))
        return seen[-1]

    with mock.patch("vcodec.codec.SymbolDecoder", recording):
        decoder.decode(packet)
    return seen[0]


def symbols_of(model: ImageModel, format: VideoFormat, packets: Iterable[Packet], **options) -> list[list[np.ndarray]]:
    """The symbols of every packet."""
    decoder = Decoder(model, format, **options)
    return [record(decoder, packet).symbols for packet in packets]


def checksum(symbols: list[np.ndarray]) -> int:
    return zlib.crc32(b"".join(s.tobytes() for s in symbols))


def perturbed(reference: Reference, size: float) -> Reference:
    """The same reference with noise on everything that may differ between machines: the picture and the latents."""
    generator = torch.Generator().manual_seed(0)

    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x + size * torch.randn(x.shape, generator=generator)

    motion, residual = (
        latents and latents._replace(y_hat=noisy(latents.y_hat), exact=noisy(latents.exact))
        for latents in (reference.motion, reference.residual)
    )
    older = None if reference.older is None else noisy(reference.older).clamp(0, 1)
    picture = noisy(reference.picture).clamp(0, 1)
    return reference._replace(picture=picture, motion=motion, residual=residual, older=older)
