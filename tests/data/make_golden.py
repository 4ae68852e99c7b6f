"""How the files in this folder were made: `python tests/data/make_golden.py`. They are frozen; see README.md there.

tiny.safetensors   a model of every kind of block, trained for a minute on the moving texture of synthetic.py
golden.vcb         a stream of 13 frames by it: two moving GOPs, a still picture, a jump
golden.json        the symbols of every frame, as CRC-32 of their int32 values in coding order
"""

import dataclasses
import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from recording import checksum, symbols_of
from synthetic import moving_frames, scrambled, tiny_config

from vcodec.bitstream import StreamHeader, StreamReader, StreamWriter
from vcodec.codec import Encoder
from vcodec.entropy import coders
from vcodec.models import ImageModel, lambda_of_quality, load_model, save_model
from vcodec.models.registry import build_model
from vcodec.models.weights import weights_hash
from vcodec.video import Frame, VideoFormat, to_rgb

HERE = Path(__file__).parent
FORMAT = VideoFormat(46, 38, "420")
WIDE_GUARD = 1e-3  # ten thousand times the real one, so that the stream holds close calls


def golden_frames() -> list[Frame]:
    frames = moving_frames(FORMAT, 13, (0.8, -0.4))
    still = [dataclasses.replace(frames[9], pts=pts) for pts in (10, 11)]
    return [*frames[:10], *still, dataclasses.replace(frames[0], pts=13)]


def train(model: ImageModel, steps: int = 500) -> None:
    """A little rate-distortion training, so that the model codes motion and residuals as a real one does."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 5e-4)
    for step in range(steps):
        speeds = 3 * torch.randn(4, 2).numpy()
        clips = [
            np.stack([to_rgb(frame) for frame in moving_frames(VideoFormat(48, 48, "444"), 3, (x, y))])
            for x, y in speeds
        ]
        frames = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3)
        frames = (frames + 0.02 * torch.randn(frames.shape)).clamp(0, 1)
        quality = 63 * torch.rand(4)
        output = model(frames, quality)
        distortion = (output.x_hat - frames).square().mean(dim=(2, 3, 4)) * 255**2
        loss = (lambda_of_quality(quality)[:, None] * distortion + output.bits / 48**2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}, {(output.bits / 48**2).mean().item():.3f} bpp")


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if not (HERE / "tiny.safetensors").exists():
        model = scrambled(build_model(tiny_config()))
        train(model)
        save_model(model, HERE / "tiny.safetensors", half=True, name="tiny.r1")
    model = load_model(HERE / "tiny.safetensors")
    coders.GUARD = WIDE_GUARD
    header = StreamHeader("tiny.r1", weights_hash(model), FORMAT, Fraction(25), Fraction(1, 25), 13, 5)
    qualities = [20] * 5 + [40] * 4 + [10] * 4
    with (HERE / "golden.vcb").open("wb") as file, StreamWriter(file, header) as writer:
        encoder = Encoder(model, FORMAT, 20, 5)
        for frame, quality in zip(golden_frames(), qualities, strict=True):
            encoder.quality = quality
            writer.write(encoder.encode(frame))

    with (HERE / "golden.vcb").open("rb") as file:
        packets = list(StreamReader(file, strict=True))
    frames = [
        {"type": p.frame_type, "quality": p.quality, "skip": p.skip, "pts": p.pts, "bytes": len(p.payload),
         "symbols": checksum(symbols)}
        for p, symbols in zip(packets, symbols_of(model, FORMAT, packets), strict=True)
    ]  # fmt: skip
    (HERE / "golden.json").write_text(json.dumps(frames, indent=1) + "\n")


if __name__ == "__main__":
    main()
