"""Measures that need something besides this package: VMAF (an ffmpeg with libvmaf), and those of scikit-video.

scikit-video's last release is of 2018: which of its measures run depends on the installed numpy and scipy. Each is
tried on a small clip before a run starts, and refused with the reason if it fails.
"""

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcodec.errors import VcodecError
from vcodec.evaluation.ffmpeg import find_ffmpeg
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.sequences import to_8_bits
from vcodec.video import Frame, create_video

FramePair = tuple[Frame, Frame]
"""A source frame and the decoded one."""


class ExtraMetric(ABC):
    """A measure over a whole sequence, under its own name in the results."""

    name: str

    @abstractmethod
    def measure(self, pairs: list[FramePair]) -> float:
        """The figure of a sequence."""


@dataclass(frozen=True)
class Vmaf(ExtraMetric):
    """VMAF with its default model, the mean over the frames; by the filter libvmaf."""

    ffmpeg: str
    name: str = "vmaf"

    def measure(self, pairs: list[FramePair]) -> float:
        format = pairs[0][0].format
        reading = ["-f", "rawvideo", "-pix_fmt", format.pixel_format, "-s", f"{format.width}x{format.height}"]
        with tempfile.TemporaryDirectory(prefix="vcodec-vmaf-") as scratch:
            source, decoded, log = (Path(scratch) / name for name in ("source.yuv", "decoded.yuv", "log.json"))
            _write(source, [pair[0] for pair in pairs])
            _write(decoded, [pair[1] for pair in pairs])
            command = [self.ffmpeg, "-v", "error", *reading, "-i", str(decoded), *reading, "-i", str(source)]
            command += ["-lavfi", f"libvmaf=log_fmt=json:log_path={log}", "-f", "null", "-"]
            Meter().run(command)
            return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


@dataclass(frozen=True)
class SkvideoMetric(ExtraMetric):
    """A full-reference measure of skvideo.measure on 8-bit luma, the mean over the frames."""

    name: str
    function: str

    def measure(self, pairs: list[FramePair]) -> float:
        source, decoded = (np.stack([_luma(pair[side]) for pair in pairs]) for side in (0, 1))
        figures = _skvideo_function(self.function)(source, decoded)
        return float(figures[1]) if self.function == "strred" else float(np.mean(figures))


SKVIDEO = {"st_rred": "strred", "skvideo_ssim": "ssim", "skvideo_msssim": "msssim", "mae_y": "mae", "mse_y": "mse"}
EXTRA_METRICS = ("vmaf", *SKVIDEO)


def create_extra_metric(name: str, ffmpeg: str | None = None) -> ExtraMetric:
    """The measure of this name, tried out where it may not run.

    Raises:
        VcodecError: an unknown name, or the measure does not run here; with the reason.
    """
    if name == "vmaf":
        program = find_ffmpeg("libvmaf", "filter", ffmpeg)
        if program is None:
            raise VcodecError("VMAF needs an ffmpeg with libvmaf: give one by --ffmpeg, or pip install imageio-ffmpeg.")
        return Vmaf(program)
    if name not in SKVIDEO:
        raise VcodecError(f"There is no measure {name!r}; choose from {', '.join(EXTRA_METRICS)}.")
    metric = SkvideoMetric(name, SKVIDEO[name])
    clip = np.random.default_rng(0).integers(0, 256, (4, 192, 192, 1), dtype=np.uint8)
    try:
        _skvideo_function(metric.function)(clip, 255 - clip)
    except Exception as error:  # whatever an unmaintained package runs into
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise VcodecError(
            f"scikit-video's {metric.function} does not run with numpy {np.__version__} ({reason}); leave {name} out "
            "or use an environment with numpy below 1.24."
        ) from error
    return metric


def _skvideo_function(name: str) -> Callable[..., Any]:
    import skvideo.measure

    return getattr(skvideo.measure, name)


def _luma(frame: Frame) -> np.ndarray:
    return to_8_bits(frame).planes[0][..., None]


def _write(path: Path, frames: list[Frame]) -> None:
    with create_video(path, frames[0].format) as writer:
        for frame in frames:
            writer.write(frame)
