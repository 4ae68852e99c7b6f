"""One point of a curve: encode, write the file, decode the file, measure. Jobs are independent and run anywhere."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcodec.errors import VcodecError
from vcodec.evaluation.codecs import Codec
from vcodec.evaluation.extra_metrics import ExtraMetric
from vcodec.evaluation.meter import Meter
from vcodec.evaluation.metrics import FrameQuality, mean_quality, measure_frame
from vcodec.evaluation.presets import Preset
from vcodec.evaluation.sequences import Source

PER_FRAME = ("psnr_rgb", "psnr_yuv", "ms_ssim")
COSTS = ("encode_seconds", "decode_seconds", "encode_peak_mib", "decode_peak_mib")
"""What depends on the machine and its load; everything else in a record is the same wherever the job ran."""


@dataclass(frozen=True)
class Job:
    """One codec at one quality on one sequence."""

    codec: Codec
    source: Source
    quality: int
    preset: Preset
    extra_metrics: tuple[ExtraMetric, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.codec.label} {self.source.name} {self.quality}"

    def settings(self) -> dict[str, Any]:
        """All that determines the record, as JSON; a stored record with other settings is not used again."""
        return {
            "preset": self.preset.identity(),
            "source": self.source.identity(),
            "codec": self.codec.settings(self.source, self.quality),
            "extra_metrics": [metric.name for metric in self.extra_metrics],
        }


@dataclass(frozen=True)
class JobResult:
    """The record of a point (JSON types only) and the coded file."""

    record: dict[str, Any]
    stream: bytes


def run_job(job: Job) -> JobResult:
    """Run one job in a temporary folder.

    Raises:
        VcodecError: the codec fails, or its file does not decode to the source's frames; with the job's name.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="vcodec-job-") as scratch:
            path = Path(scratch) / f"stream{job.codec.extension}"
            return _run_job(job, path)
    except VcodecError as error:
        raise VcodecError(f"{job.name}: {error}") from error


def _run_job(job: Job, path: Path) -> JobResult:
    job.codec.prepare(job.quality)
    encoding = Meter()
    with encoding.running():
        frame_bytes = job.codec.encode(job.source, job.quality, path, encoding)
    decoding = Meter()
    qualities, extra = _measure(job, path, decoding)
    if len(frame_bytes) != len(qualities):
        raise VcodecError(f"its file holds {len(frame_bytes)} coded frames but {len(qualities)} are compared.")
    format, size = job.source.format, path.stat().st_size
    precomputed = job.codec.is_precomputed
    record: dict[str, Any] = {
        "codec": job.codec.label,
        "sequence": job.source.name,
        "quality": job.quality,
        "width": format.width,
        "height": format.height,
        "frames": len(qualities),
        "frame_rate": float(job.source.frame_rate),
        "bytes": size,
        "bpp": 8 * size / (len(qualities) * format.width * format.height),
        **mean_quality(qualities),
        **extra,
        "encode_seconds": None if precomputed else encoding.seconds,
        "decode_seconds": decoding.seconds,
        "encode_peak_mib": None if precomputed else _mebibytes(encoding.peak_bytes),
        "decode_peak_mib": _mebibytes(decoding.peak_bytes),
        "per_frame": {
            "bits": [8 * count for count in frame_bytes],
            **{metric: [getattr(quality, metric) for quality in qualities] for metric in PER_FRAME},
        },
        "settings": job.settings(),
    }
    return JobResult(record, path.read_bytes())


def _measure(job: Job, path: Path, meter: Meter) -> tuple[list[FrameQuality], dict[str, float]]:
    """The quality of every decoded frame; the file has to decode to exactly as many frames as went in."""
    decoded = meter.included(job.codec.decode(job.source, job.quality, path, meter))
    qualities: list[FrameQuality] = []
    pairs = []
    for source_frame in job.source:
        decoded_frame = next(decoded, None)
        if decoded_frame is None:
            raise VcodecError(f"its file decodes to {len(qualities)} frames only.")
        qualities.append(measure_frame(source_frame, decoded_frame))
        if job.extra_metrics:
            pairs.append((source_frame, decoded_frame))
    if next(decoded, None) is not None:
        raise VcodecError(f"its file decodes to more than the {len(qualities)} frames that went in.")
    extra = {metric.name: metric.measure(pairs) for metric in job.extra_metrics}
    return qualities, extra


def _mebibytes(count: int | None) -> float | None:
    return None if count is None else count / 2**20
