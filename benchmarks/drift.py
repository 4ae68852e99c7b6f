"""How far decoded pictures drift over a GOP when they are computed in another way than the encoder's.

    python benchmarks/drift.py [--clip CLIP] [--frames 12] [--quality 32] [--model NAME] [--device cpu|cuda] [--json]

The clip is encoded in fp32 and in bf16, a single GOP each, with the default settings of the CPU, and decoded by every
setting. RGB PSNR against the source, in dB: of the encoder's own reconstruction (the mean over the frames), and how
much each decoder is off, in the mean and in the worst frame. A decoder follows the stream's header, so the arithmetic
is equal in practice (the mark there: 0.01 dB); the rows "against the header" show what following it is worth.
"""

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vcodec.bitstream import Packet
from vcodec.codec import Decoder, Encoder
from vcodec.files import find_model
from vcodec.kernels import use_backend
from vcodec.models import ImageModel
from vcodec.video import Frame, open_video, to_rgb

CLIP = Path(__file__).parent.parent / "vcodec" / "data" / "street.mp4"
SETTINGS: dict[str, dict[str, Any]] = {
    "as encoded": {},
    "2 threads": {"threads": 2},
    "without oneDNN": {"onednn": False},
    "not channels_last": {"layout": torch.contiguous_format},
    "scan in PyTorch": {"scan": "reference"},
    "all of these": {"threads": 2, "onednn": False, "layout": torch.contiguous_format, "scan": "reference"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--quality", type=int, default=32)
    parser.add_argument("--device", default="cpu", help="of the decoders")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = find_model(arguments.model)
    with open_video(arguments.clip, frames=arguments.frames) as video:
        frames = list(video)
    results = []
    for arithmetic in ("fp32", "bf16"):
        encoder = Encoder(model, frames[0].format, arguments.quality, -1, arithmetic=arithmetic)
        coded = [(encoder.encode(frame), psnr(frame, encoder.reconstruction)) for frame in frames]
        packets, encoded = [packet for packet, _ in coded], np.array([quality for _, quality in coded])
        size = sum(len(packet.payload) for packet in packets)
        results.append({"stream": arithmetic, "bytes": size, "psnr_rgb": round(float(encoded.mean()), 4)})
        other = "bf16" if arithmetic == "fp32" else "fp32"
        rows = [*((name, arithmetic, setting) for name, setting in SETTINGS.items()), ("against the header", other, {})]
        for name, decoded_in, setting in rows:
            off = decode(model, packets, frames, decoded_in, arguments.device, **setting) - encoded
            results.append(
                {
                    "stream": arithmetic, "decoder": f"{decoded_in}, {name}", "mean_off": round(float(off.mean()), 5),
                    "worst_frame_off": round(float(off[np.abs(off).argmax()]), 5),
                }
            )  # fmt: skip
    for result in results:
        if not arguments.json:
            print(", ".join(f"{key} {value}" for key, value in result.items()))
    if arguments.json:
        print(json.dumps(results))


def decode(model: ImageModel, packets: list[Packet], frames: list[Frame], arithmetic: str, device: str,
           **setting: Any) -> np.ndarray:  # fmt: skip
    """RGB PSNR of each frame in dB."""
    with _applied(**setting) as layout:
        decoder = Decoder(model, frames[0].format, device=device, arithmetic=arithmetic)
        decoder.model = decoder.model.to(memory_format=layout)  # type: ignore[call-overload]
        return np.array([psnr(f, decoder.decode(packet)) for f, packet in zip(frames, packets, strict=True)])


def psnr(one: Frame, other: Frame) -> float:
    return float(-10 * np.log10(np.square(to_rgb(one) - to_rgb(other), dtype=np.float64).mean()))


@contextlib.contextmanager
def _applied(threads: int = 1, onednn: bool = True, scan: str | None = None,
             layout: torch.memory_format = torch.channels_last) -> Iterator[torch.memory_format]:  # fmt: skip
    """Computes so; gives the memory layout for the model."""
    torch.set_num_threads(threads)
    try:
        with torch.backends.mkldnn.flags(enabled=onednn), use_backend(scan):
            yield layout
    finally:
        torch.set_num_threads(1)


if __name__ == "__main__":
    main()
