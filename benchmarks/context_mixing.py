"""Adaptive context mixing against the fixed tables: bytes of the same frames, and what the coder takes of the time.

Both write the symbols that the encoder chose with the adaptive coder; with the fixed tables they are written once more.
"""

import argparse
import time
from itertools import islice
from pathlib import Path
from typing import ClassVar
from unittest import mock

import torch
from torch import Tensor

from vcodec.codec import Encoder
from vcodec.entropy.coders import SymbolEncoder
from vcodec.entropy.distributions import GAUSSIAN, Distribution
from vcodec.entropy.factorized import FactorizedPrior
from vcodec.entropy.latent_maps import ChannelRange
from vcodec.files import find_model
from vcodec.video import open_video

CLIP = Path(__file__).parent.parent / "vcodec" / "data" / "street.mp4"


class Doubled(SymbolEncoder):
    """Writes each symbol a second time under the fixed tables, and takes the time of either."""

    seconds: ClassVar[dict[str, float]] = {"adaptive": 0.0, "fixed": 0.0}
    fixed_size: ClassVar[dict[bytes, int]] = {}

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.fixed = SymbolEncoder(rdoq=0)

    def code_factorized(self, prior: FactorizedPrior, z: Tensor | None, shape: tuple[int, ...], bank: Tensor) -> Tensor:
        began = time.perf_counter()
        z_hat = super().code_factorized(prior, z, shape, bank)
        middle = time.perf_counter()
        self.fixed.code_factorized(prior, z_hat, shape, bank)
        self._add(began, middle)
        return z_hat

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        began = time.perf_counter()
        y_hat, symbols = super().code_latents(y, means, log_scales, mask, distribution, spacing, channels)
        middle = time.perf_counter()
        self.fixed.code_latents(symbols + means, means, log_scales, mask, distribution)
        self._add(began, middle)
        return y_hat, symbols

    def finish(self) -> bytes:
        began = time.perf_counter()
        payload = super().finish()
        middle = time.perf_counter()
        self.fixed_size[payload] = len(self.fixed.finish())
        self._add(began, middle)
        return payload

    def _add(self, began: float, middle: float) -> None:
        self.seconds["adaptive"] += middle - began
        self.seconds["fixed"] += time.perf_counter() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("clip", nargs="?", type=Path, default=CLIP)
    parser.add_argument("--model", default="mambavc-ssf-small", help="a name, or a model file")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--qualities", type=int, nargs="+", default=[14, 26, 38, 50])
    options = parser.parse_args()
    model = find_model(options.model)
    frames = list(islice(open_video(options.clip), options.frames))
    with torch.inference_mode(), mock.patch("vcodec.codec.SymbolEncoder", Doubled):
        for quality in options.qualities:
            Doubled.seconds.update(adaptive=0.0, fixed=0.0)
            encoder = Encoder(model, frames[0].format, quality)
            began, adaptive, fixed = time.perf_counter(), 0, 0
            for frame in frames:
                Doubled.fixed_size.clear()
                payload = encoder.encode(frame).payload
                adaptive += len(payload)
                fixed += Doubled.fixed_size.get(payload, 0)  # a frame that repeats the one before codes nothing
            share = Doubled.seconds["adaptive"] / (time.perf_counter() - began - Doubled.seconds["fixed"])
            saved = adaptive / fixed - 1
            print(f"quality {quality}: {fixed} bytes under fixed tables, {adaptive} adaptively ({saved:+.1%})")
            print(f"  choosing and coding symbols takes {share:.1%} of the encoder's time")


if __name__ == "__main__":
    main()
