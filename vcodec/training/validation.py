"""Validation on held-out clips: real bytes and decoded pictures at a few qualities."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ..bitstream import Packet, StreamHeader, StreamReader, StreamWriter
from ..codec import Decoder, Encoder
from ..models import ImageModel, lambda_of_quality
from ..video import Frame, VideoFormat
from .cache import StoredClip
from .objective import quality_of_lambda
from .pictures import flow_picture, scale_picture
from .schedule import Stage

#: Of larger pictures, a window of this size in the middle is coded.
LARGEST = 640


@dataclass(frozen=True)
class ValidationPoint:
    """One quality, the mean over the clips: bits per pixel, PSNR in dB (mean over frames), and RD cost."""

    quality: int
    bpp: float
    psnr: float
    cost: float  # lambda * 255^2 * MSE + bpp


@dataclass(frozen=True)
class ValidationReport:
    """Points in the order of quality, and pictures (T, 3, H, W) by name."""

    points: list[ValidationPoint]
    pictures: dict[str, Tensor] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """The geometric mean of the points' costs: a change by one percent counts the same at each rate."""
        return math.exp(sum(math.log(point.cost) for point in self.points) / len(self.points))

    def __str__(self) -> str:
        points = (f"q{point.quality} {point.bpp:.4f} bpp {point.psnr:.2f} dB" for point in self.points)
        return f"cost {self.cost:.4f}; {', '.join(points)}"


@torch.no_grad()
def validate(
    model: ImageModel, clips: Sequence[StoredClip], stage: Stage, qualities: Sequence[int], frames: int
) -> ValidationReport:
    """RD points of `model` on the first frames of `clips`, coded as one GOP each, by real bytes.

    An image stage codes first frames only; a stage of one lambda has one point.
    """
    model.update()
    frames = 1 if stage.kind == "image" else frames
    if stage.lmbda is not None:
        qualities = [round(quality_of_lambda(stage.lmbda))]
    if not model.variable_rate:
        qualities = [model.config.fixed_quality]
    points = []
    for quality in qualities:
        lmbda = stage.lmbda or lambda_of_quality(float(quality))
        results = [code(model, load(clip, frames), quality) for clip in clips]
        bpp = sum(bpp for bpp, _ in results) / len(clips)
        mse = sum(float(mse.mean()) for _, mse in results) / len(clips)
        psnr = sum(float((-10 * mse.clip(1e-10).log10()).mean()) for _, mse in results) / len(clips)
        points.append(ValidationPoint(quality, bpp, psnr, lmbda * 255**2 * mse + bpp))
    return ValidationReport(points, draw(model, clips[0], qualities[len(qualities) // 2], frames))


def code(model: ImageModel, pixels: Tensor, quality: int) -> tuple[float, Tensor]:
    """Write uint8 frames (T, H, W, 3) to a stream and decode it: (bits per pixel with framing, MSE (T,))."""
    count, height, width, _ = pixels.shape
    device = str(next(model.parameters()).device)
    video_format = VideoFormat(width, height, "rgb", full_range=True)
    encoder = Encoder(model, video_format, quality, gop_size=-1, device=device, cascade=False)
    stream = io.BytesIO()
    header = StreamHeader(model.name, bytes(8), video_format, Fraction(25), Fraction(1, 25), count, -1)
    writer = StreamWriter(stream, header)
    start = writer.bytes_written  # the sequence header is not counted: a clip here is much shorter than a video
    for pts, picture in enumerate(pixels.numpy()):
        planes = tuple(np.ascontiguousarray(picture[..., channel]) for channel in range(3))
        writer.write(encoder.encode(Frame(planes, pts, video_format)))
    bpp = 8 * (writer.bytes_written - start) / (count * height * width)
    writer.close()
    stream.seek(0)
    decoder = Decoder(model, video_format, device=device)
    packets = (item for item in StreamReader(stream, strict=True) if isinstance(item, Packet))
    decoded = [np.stack(decoder.decode(packet).planes, -1) for packet in packets]
    error = (torch.from_numpy(np.stack(decoded)).float() - pixels.float()) / 255
    return bpp, error.square().mean(dim=(1, 2, 3))


def load(clip: StoredClip, frames: int) -> Tensor:
    """The first frames of a clip: uint8 (T, H, W, 3)."""
    count, *size = clip.shape
    height, width = (min(side, LARGEST) for side in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return clip.read(range(min(frames, count)), top, left, height, width).cpu()


def draw(model: ImageModel, clip: StoredClip, quality: int, frames: int) -> dict[str, Tensor]:
    """Original, reconstruction, flow and scale field of a clip's first frames, at most four."""
    device = next(model.parameters()).device
    x = load(clip, min(frames, 4)).to(device).permute(0, 3, 1, 2).float().div(255)
    output = model(x[None], torch.tensor([float(quality)], device=device))
    pictures = {"original": x.cpu(), "reconstruction": output.x_hat[0].float().cpu()}
    if output.flow is not None:
        pictures["flow"] = flow_picture(output.flow[0, :, :2])
        pictures["scale"] = scale_picture(output.flow[0, :, 2])
    return pictures
