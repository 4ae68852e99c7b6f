"""Whether streams that were written under one setting are read under every other, to the same symbols.

    python benchmarks/exact_scales.py                                   the default model, on this CPU
    python benchmarks/exact_scales.py --models '*' --size 64x48         every registered model in full size
    python benchmarks/exact_scales.py --devices cpu cuda                from the CPU to the GPU and back; --texture
                                                                        takes no clip, where PyAV is missing

For each model: the settings tried, the symbols compared, how many differed, how far the scales' grid positions came
apart at most, and how near to a boundary a position may lie before the encoder lists it (the guard band). The exit code
is 1 when a symbol differed or the positions came within a factor of ten of the guard band. Models without weights are
initialised at random.
"""

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vcodec.bitstream import Packet
from vcodec.codec import Decoder, Encoder
from vcodec.entropy.coders import GUARD, SymbolDecoder
from vcodec.entropy.context_mixing import Statistics
from vcodec.entropy.distributions import GAUSSIAN, Distribution
from vcodec.entropy.gaussian import level_position
from vcodec.entropy.hyperprior import EntropyModel
from vcodec.entropy.latent_maps import ChannelRange
from vcodec.errors import VcodecError
from vcodec.models import ImageModel, VideoModel, create_model, list_models
from vcodec.video import Frame, VideoFormat, from_rgb, open_video, to_rgb

CLIP = Path(__file__).parent.parent / "vcodec" / "data" / "street.mp4"


@dataclass(frozen=True)
class Setting:
    """How a machine computes."""

    device: str = "cpu"
    threads: int = 1
    onednn: bool = True  # on CUDA: cuDNN
    channels_last: bool = True
    arithmetic: str = "fp32"
    compiled: bool = False

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.backends.mkldnn.flags(enabled=self.onednn), torch.backends.cudnn.flags(enabled=self.onednn):
                yield
        finally:
            torch.set_num_threads(before)

    def prepare(self, coder: Encoder | Decoder) -> None:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        coder.model = coder.model.to(memory_format=layout)  # type: ignore[call-overload]
        if self.compiled:
            for model in (m for m in coder.model.modules() if isinstance(m, EntropyModel)):
                for module in model.exact_modules():
                    module.compile()


class Recorder(SymbolDecoder):
    """Keeps the symbols and the scales' positions on their grid."""

    def __init__(self, data: bytes, statistics: Statistics | None = None):
        super().__init__(data, statistics)
        self.symbols: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []

    def code_factorized(self, prior: Any, z: Tensor | None, shape: tuple[int, ...], bank: Tensor) -> Tensor:
        z_hat = super().code_factorized(prior, z, shape, bank)
        self.symbols.append(z_hat.cpu().numpy().astype(np.int32).reshape(-1))
        return z_hat

    def code_latents(self, y: Tensor | None, means: Tensor, log_scales: Tensor, mask: Tensor | None = None,
                     distribution: Distribution = GAUSSIAN, spacing: int = 1,
                     channels: ChannelRange | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        y_hat, symbols = super().code_latents(y, means, log_scales, mask, distribution, spacing, channels)
        self.symbols.append(symbols.cpu().numpy().astype(np.int32).reshape(-1))
        self.positions.append(level_position(log_scales).cpu().numpy().reshape(-1))
        return y_hat, symbols


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", default="mambavc-ssf-small", help="a name or a pattern such as '*'")
    parser.add_argument("--devices", nargs="+", default=["cpu"], choices=["cpu", "cuda"])
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--texture", action="store_true", help="code a moving texture in place of the clip")
    parser.add_argument("--size", help="WxH of the part in the middle that is coded; default: all of it")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="with torch.compile as well: takes minutes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if "cuda" in arguments.devices and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    frames = _texture(arguments.frames) if arguments.texture else _clip(arguments.clip, arguments.frames)
    if arguments.size:
        frames = _middle(frames, *map(int, arguments.size.split("x")))
    results, well = [], True
    for name in list_models(arguments.models):
        result = compare(name, frames, settings(arguments.devices, arguments.compiled))
        well &= result["differing"] == 0 and result["positions_apart"] < GUARD / 10
        results.append(result)
        if not arguments.json:
            print(" ".join(f"{key}={value}" for key, value in result.items()), flush=True)
    if arguments.json:
        print(json.dumps(results))
    return 0 if well else 1


def settings(devices: list[str], compiled: bool) -> list[Setting]:
    """Everything at its default, every option changed by itself, and all changed at once, on each device."""
    made = []
    for device in devices:
        changed: dict[str, Any] = {"onednn": False, "channels_last": False, "arithmetic": "bf16"}
        if device == "cpu":
            changed["threads"] = 2
        if compiled:
            changed["compiled"] = True
        each = [{key: value} for key, value in changed.items()]
        made += [Setting(device, **options) for options in ({}, *each, changed)]
    return made


def compare(name: str, frames: list[Frame], tried: list[Setting]) -> dict[str, Any]:
    """Writes under the default setting of each device and under the last one; reads under all."""
    model = _model(name)
    frames = frames if isinstance(model, VideoModel) else frames[:1]
    writers = [setting for setting in tried if setting in (Setting(setting.device), tried[-1])]
    compared = differing = 0
    apart = 0.0
    for writer in tqdm(writers, name, file=sys.stderr):
        packets = _write(model, frames, writer)
        expected: list[Recorder] | None = None
        for reader in sorted(tried, key=lambda setting: setting != writer):
            found = _read(model, frames[0].format, packets, reader)
            expected = expected or found
            compared += sum(s.size for seen in expected for s in seen.symbols)
            differing += _differing(found, expected)
            apart = max(apart, _apart(found, expected))
    return {
        "model": name, "weights": model.name != name, "settings": len(tried), "pairs": len(writers) * len(tried),
        "symbols": compared, "differing": differing, "positions_apart": apart, "guard": GUARD,
    }  # fmt: skip


def _write(model: ImageModel, frames: list[Frame], setting: Setting) -> list[Packet]:
    """Motion and residual are coded in every P-frame, however little they help a model that was never trained."""
    quality = 45 if model.variable_rate else model.config.fixed_quality
    with setting.applied(), mock.patch("vcodec.codec.lambda_of_quality", return_value=1e9):
        encoder = Encoder(model, frames[0].format, quality, device=setting.device, arithmetic=setting.arithmetic)
        setting.prepare(encoder)
        return [encoder.encode(frame) for frame in frames]


def _read(model: ImageModel, format: VideoFormat, packets: list[Packet], setting: Setting) -> list[Recorder]:
    """What was seen of each packet, up to the first that can't be decoded."""
    seen: list[Recorder] = []

    def recording(*arguments: Any) -> Recorder:
        seen.append(Recorder(*arguments))
        return seen[-1]

    with setting.applied(), mock.patch("vcodec.codec.SymbolDecoder", recording):
        decoder = Decoder(model, format, device=setting.device, arithmetic=setting.arithmetic)
        setting.prepare(decoder)
        for number, packet in enumerate(packets):
            try:
                decoder.decode(packet)
            except VcodecError as error:
                print(f"{asdict(setting)}: {error}", file=sys.stderr)
                del seen[number:]
                break
    return seen


def _differing(found: list[Recorder], expected: list[Recorder]) -> int:
    """Symbols that are not the same; those of frames that could not be decoded count as well."""
    count = 0
    for one, other in itertools.zip_longest(found, expected):
        if one is None or other is None:
            count += sum(s.size for s in (one or other).symbols)
        else:
            count += sum(int((a != b).sum()) for a, b in zip(one.symbols, other.symbols, strict=True))
    return count


def _apart(found: list[Recorder], expected: list[Recorder]) -> float:
    pairs = (zip(one.positions, other.positions, strict=True) for one, other in zip(found, expected, strict=False))
    return max((float(np.abs(a - b).max()) for a, b in itertools.chain(*pairs)), default=0.0)


def _model(name: str) -> ImageModel:
    """The registered model with the weights that ship, else with noise on every parameter."""
    model = create_model(name)
    if not model.has_tables:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
        model.update()
    return model


def _clip(path: Path, count: int) -> list[Frame]:
    with open_video(path, frames=count) as video:
        return list(video)


def _texture(count: int) -> list[Frame]:
    """Noise of many scales, 416x240, that moves by 5 pixels a frame."""
    noise, format = np.random.default_rng(0), VideoFormat(416, 240)
    scales = [np.kron(noise.random((256 // k, 512 // k, 3)), np.ones((k, k, 1))) for k in (2, 8, 32)]
    large = np.mean(scales, axis=0)
    return [from_rgb(large[:240, 5 * i : 5 * i + 416].astype(np.float32), format, i) for i in range(count)]


def _middle(frames: list[Frame], width: int, height: int) -> list[Frame]:
    """Parts of this size, as 4:2:0."""
    left, top = (frames[0].format.width - width) // 2, (frames[0].format.height - height) // 2
    format = VideoFormat(width, height)
    return [from_rgb(to_rgb(f)[top : top + height, left : left + width], format, f.pts) for f in frames]


if __name__ == "__main__":
    sys.exit(main())
