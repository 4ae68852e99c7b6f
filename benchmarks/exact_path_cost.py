"""What exact scales cost: float64 on the way to them and the list of close calls, against the same codec with float32
scales and no list (whose streams no other machine may be able to read).

    python benchmarks/exact_path_cost.py [--clip CLIP] [--frames 12] [--qualities 16 32 48] [--pairs 5] [--threads 1]

Both encode and decode the same frames in turn; the median of the pairs' ratios counts. The mark: at most 25 % of the
encoding time and 1 % of the rate.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from tqdm import tqdm

from vcodec.codec import Decoder, Encoder
from vcodec.entropy.coders import SymbolDecoder, SymbolEncoder
from vcodec.entropy.distributions import GAUSSIAN, Distribution
from vcodec.entropy.latent_maps import ChannelRange
from vcodec.files import find_model
from vcodec.models import ImageModel
from vcodec.video import Frame, open_video

CLIP = Path(__file__).parent.parent / "vcodec" / "data" / "street.mp4"


class Float32Encoder(SymbolEncoder):
    """Takes scales of any precision and lists no close call."""

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        return super().code_latents(y, means, log_scales.double(), mask, distribution, spacing, channels)


class Float32Decoder(SymbolDecoder):
    """Takes scales of any precision."""

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        return super().code_latents(y, means, log_scales.double(), mask, distribution, spacing, channels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--qualities", type=int, nargs="+", default=[16, 32, 48])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with open_video(arguments.clip, frames=arguments.frames) as video:
        frames = list(video)
    results = {}
    for quality in arguments.qualities:
        results[quality] = measure(find_model(arguments.model), frames, quality, arguments.pairs)
        if not arguments.json:
            print(f"quality {quality}: " + ", ".join(f"{key} {value}" for key, value in results[quality].items()))
    if arguments.json:
        print(json.dumps(results))


def measure(model: ImageModel, frames: list[Frame], quality: int, pairs: int) -> dict[str, Any]:
    """Ratios of exact to float32: processor time to encode and to decode, and payload bytes."""
    exact, single = [], []
    for _ in tqdm(range(pairs), f"quality {quality}", file=sys.stderr):
        exact.append(_code(model, frames, quality))
        with _single_precision():
            single.append(_code(model, frames, quality))
    encode, decode = (statistics.median(a[k] / b[k] for a, b in zip(exact, single, strict=True)) for k in (0, 1))
    return {
        "encode_time": round(encode, 3),
        "decode_time": round(decode, 3),
        "rate": round(exact[0][2] / (single[0][2] - single[0][4]), 5),
        "bytes": exact[0][2],
        "close_calls": exact[0][3],
    }


def _code(model: ImageModel, frames: list[Frame], quality: int) -> tuple[float, float, int, int, int]:
    """Seconds to encode and to decode, payload bytes, close calls, and payloads that hold the number of these."""
    encoder, decoder = Encoder(model, frames[0].format, quality), Decoder(model, frames[0].format)
    start = time.process_time()
    packets = [encoder.encode(frame) for frame in frames]
    middle = time.process_time()
    for packet in packets:
        decoder.decode(packet)
    end = time.process_time()
    coded = [packet.payload for packet in packets if packet.payload]
    close_calls = sum(payload[0] for payload in coded)
    return middle - start, end - middle, sum(map(len, coded)), close_calls, len(coded)


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    """Nothing becomes float64, and no position is close to a boundary."""
    with (
        mock.patch("vcodec.models.ImageModel.make_exact"),
        mock.patch("vcodec.entropy.coders.GUARD", -1.0),
        mock.patch("vcodec.codec.SymbolEncoder", Float32Encoder),
        mock.patch("vcodec.codec.SymbolDecoder", Float32Decoder),
    ):
        yield


if __name__ == "__main__":
    main()
