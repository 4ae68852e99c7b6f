"""CompressAI's scale-space flow network (ssf2020) with a user's own checkpoints, one per rate.

No trained weights of it are published, so it takes part only where checkpoints are given. The network's own I-frame
and P-frame steps are used; around them stands what a file needs: a header, I-frames at the preset's distance, and
the entropy-coded strings with their lengths as varints (a few bytes per frame, where CompressAI's own file format
spends forty). Sizes are padded by replication on the right and below.

Quality is the place of the checkpoint in the order given, counted from 1.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn
from torch.nn import functional

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import Codec, CodecOptions
from vcodec.evaluation.complexity import kmac_per_pixel, parameters
from vcodec.evaluation.compressai_import import import_compressai
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.sequences import Source
from vcodec.files import choose_device
from vcodec.video import Frame, from_rgb, to_rgb

STRIDE = 128
HEADER = struct.Struct("<HHHH")
"""Width, height, frames, frames per group (0: one group)."""


@dataclass(frozen=True)
class Ssf2020Codec(Codec):
    preset: Preset
    checkpoints: tuple[Path, ...]
    device: str = "cpu"
    label: str = "ssf2020"
    extension: str = ".ssf"

    @classmethod
    def from_checkpoints(cls, preset: Preset, options: CodecOptions) -> "Ssf2020Codec":
        if not options.ssf2020_checkpoints:
            raise VcodecError(
                "ssf2020 needs --ssf2020-checkpoint FILE, once per rate from low to high: "
                "no trained weights of this network are published."
            )
        missing = [path for path in options.ssf2020_checkpoints if not path.is_file()]
        if missing:
            raise VcodecError(f"{missing[0]}: there is no such checkpoint.")
        return cls(preset, options.ssf2020_checkpoints, choose_device(options.device))

    def qualities(self, source: Source) -> tuple[int, ...]:
        return tuple(range(1, len(self.checkpoints) + 1))

    def settings(self, source: Source, quality: int) -> dict[str, Any]:
        checkpoint = self.checkpoints[quality - 1]
        return {"checkpoint": checkpoint.name, "sha256": sha256(checkpoint.read_bytes()).hexdigest()[:16]}

    def prepare(self, quality: int) -> None:
        self._network(quality)

    def encode(self, source: Source, quality: int, path: Path, meter: Meter) -> list[int]:
        network = self._network(quality)
        format, coded, reference = source.format, [], None
        with torch.inference_mode():
            for index, frame in enumerate(meter.excluded(source)):
                x = _padded(frame, self.device)
                if reference is None or self._starts_group(index):
                    reference, out = network.encode_keyframe(x)
                    strings = out["strings"]
                else:
                    reference, out = network.encode_inter(x, reference)
                    strings = [*out["strings"]["motion"], *out["strings"]["residual"]]
                coded.append(_join([batch[0] for batch in strings]))
        header = HEADER.pack(format.width, format.height, len(coded), self.preset.gop_size or 0)
        path.write_bytes(header + b"".join(coded))
        return [len(frame) for frame in coded]

    def decode(self, source: Source, quality: int, path: Path, meter: Meter) -> Iterator[Frame]:
        network = self._network(quality)
        file = BytesIO(path.read_bytes())
        width, height, frames, gop_size = HEADER.unpack(file.read(HEADER.size))
        shape = [-(-height // STRIDE), -(-width // STRIDE)]
        reference: Tensor | None = None
        for index in range(frames):
            with torch.inference_mode():
                if reference is None or (gop_size and index % gop_size == 0):
                    reference = network.decode_keyframe([[s] for s in _split(file, 2)], shape)
                else:
                    motion = [[s] for s in _split(file, 2)]
                    residual = [[s] for s in _split(file, 2)]
                    strings = {"motion": motion, "residual": residual}
                    reference = network.decode_inter(reference, strings, {"motion": shape, "residual": shape})
                rgb = reference[0, :, :height, :width].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            yield from_rgb(rgb, source.format, index)

    def complexity(self, source: Source) -> dict[str, float]:
        """Counted on one square of the smallest size, whose content does not matter."""
        network = self._network(1)
        x = torch.zeros(1, 3, STRIDE, STRIDE, device=self.device)
        pixels = STRIDE * STRIDE
        with torch.inference_mode():
            encode_i, (x_hat, i) = kmac_per_pixel(partial(network.encode_keyframe, x), pixels)
            decode_i, _ = kmac_per_pixel(partial(network.decode_keyframe, i["strings"], i["shape"]), pixels)
            encode_p, (_, p) = kmac_per_pixel(partial(network.encode_inter, x, x_hat), pixels)
            decode_p, _ = kmac_per_pixel(partial(network.decode_inter, x_hat, p["strings"], p["shape"]), pixels)
        return {
            "parameters": parameters(network),
            "kmac_per_pixel_encode_iframe": encode_i,
            "kmac_per_pixel_decode_iframe": decode_i,
            "kmac_per_pixel_encode_pframe": encode_p,
            "kmac_per_pixel_decode_pframe": decode_p,
        }

    def _starts_group(self, index: int) -> bool:
        return self.preset.gop_size is not None and index % self.preset.gop_size == 0

    def _network(self, quality: int) -> Any:
        return _load_network(self.checkpoints[quality - 1], self.device)


@lru_cache(maxsize=1)
def _load_network(checkpoint: Path, device: str) -> nn.Module:
    video = import_compressai("compressai.models.video")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights = content.get("state_dict", content)
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
        network = video.ScaleSpaceFlow.from_state_dict(weights)
    except UnpicklingError as error:
        raise VcodecError(f"{checkpoint}: not a checkpoint of ssf2020 (torch.save did not write it).") from error
    except (OSError, EOFError, RuntimeError, AttributeError, KeyError, ValueError) as error:
        reason = (str(error).strip() or "it is cut off").splitlines()[0]
        raise VcodecError(f"{checkpoint}: not a checkpoint of ssf2020 ({reason}).") from error
    network.update()  # a training checkpoint has no coding tables yet
    return network.to(device).eval()


def _padded(frame: Frame, device: str) -> Tensor:
    x = torch.from_numpy(to_rgb(frame)).to(device).permute(2, 0, 1)[None]
    height, width = x.shape[-2:]
    return functional.pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")


def _join(strings: list[bytes]) -> bytes:
    return b"".join(_varint(len(string)) + string for string in strings)


def _split(file: BinaryIO, count: int) -> list[bytes]:
    return [file.read(_read_varint(file)) for _ in range(count)]


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def _read_varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            raise VcodecError("An ssf2020 file ends too early.")
        value |= (byte[0] & 127) << shift
        shift += 7
        if byte[0] < 128:
            return value
