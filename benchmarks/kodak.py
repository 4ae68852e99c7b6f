"""Rate and PSNR on still pictures: vcodec's image codecs beside JPEG, WebP, AVIF, x265 and SVT-AV1, by decoded files.

    python benchmarks/kodak.py PICTURES... --model a.safetensors b.safetensors [--output kodak.json] [--plot kodak.png]

Every point is the size of a real file (x265, SVT-AV1: a bare stream of one intra frame) and the PSNR in RGB of that
file, decoded. Curves are means over pictures; BD-rates are stated against JPEG, x265 in 4:4:4 and the first model.
With --resume, curves that stand in the output file are not measured again: models can be added as they get trained.
"""

import argparse
import io
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, features
from tqdm import tqdm

import vcodec
from vcodec.evaluation.analysis import find_pictures
from vcodec.evaluation.analysis_plots import short_name
from vcodec.evaluation.bd_rate import RatePoint, bjontegaard_delta
from vcodec.evaluation.plots import COLORS, MARKERS
from vcodec.evaluation.presets import PRESETS
from vcodec.evaluation.standard_codecs import (
    EncoderCommand,
    decode_elementary_stream,
    encode_elementary_stream,
    svtav1_command,
    x265_command,
)
from vcodec.models import ImageModel, create_model, load_model
from vcodec.video import VideoFormat, from_rgb, to_rgb

Coded = tuple[int, np.ndarray]  # bytes of the file, decoded picture (H, W, 3) uint8
Coder = Callable[[Path], Coded]
Curves = dict[str, dict[str, list[RatePoint]]]  # codec, picture, points
ANCHORS = ("JPEG", "x265 4:4:4")
INTRA = replace(PRESETS["paper"], intra_period=1)


def main() -> None:
    options = parse_options()
    pictures = find_pictures(options.pictures)[: options.limit]
    curves = load(options.output) if options.resume else {}
    wanted = codecs(options.model, options.qualities)
    for codec, points in wanted.items():
        if codec not in curves:
            curves[codec] = measure_all(codec, points, pictures)
            if options.output:
                save(options.output, curves)
    means = {codec: mean_curve(curves[codec]) for codec in wanted}
    print("\n".join(lines(means, curves, [*ANCHORS, *options.model[:1]])))
    if options.plot:
        figure(means, len(pictures)).savefig(options.plot, dpi=100)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pictures", type=Path, nargs="+", help="pictures, or folders of them")
    parser.add_argument("--model", nargs="*", default=["default"], help="names or weight files (default: default)")
    parser.add_argument("--qualities", type=int, nargs="+", default=[4, 16, 28, 40, 52], help="of vcodec's models")
    parser.add_argument("--limit", type=int, help="only the first so many pictures")
    parser.add_argument("--output", type=Path, help="also write all points as JSON")
    parser.add_argument("--resume", action="store_true", help="take the curves that stand in the output file")
    parser.add_argument("--plot", type=Path, help="also draw the mean curves, as PNG")
    options = parser.parse_args()
    if options.resume and not options.output:
        parser.error("--resume needs --output: there the curves stand")
    return options


def codecs(models: list[str], qualities: list[int]) -> dict[str, list[Coder]]:
    """For each codec a function for each point of its curve: picture file to coded size and decoded picture."""
    found = {
        "JPEG": [with_pillow("JPEG", q) for q in (10, 25, 45, 65, 80, 90)],
        "WebP": [with_pillow("WEBP", q) for q in (5, 25, 50, 70, 85, 93)],
    }
    if features.check("avif"):
        found["AVIF"] = [with_pillow("AVIF", q) for q in (20, 35, 50, 65, 80)]
    crfs = (19, 23, 27, 31, 35, 39, 43)
    found["x265 4:4:4"] = [with_video_encoder(x265_command(crf, INTRA), "444", ".hevc") for crf in crfs]
    found["x265 4:2:0"] = [with_video_encoder(x265_command(crf, INTRA), "420", ".hevc") for crf in crfs]
    found["SVT-AV1 4:2:0"] = [
        with_video_encoder(svtav1_command(crf, INTRA), "420", ".obu") for crf in (19, 27, 35, 43, 51, 59)
    ]
    for model in models:
        found[model] = [with_vcodec(model, quality) for quality in qualities]
    return found


def with_pillow(format: str, quality: int) -> Coder:
    def code(path: Path) -> Coded:
        file = io.BytesIO()
        Image.open(path).convert("RGB").save(file, format, quality=quality, optimize=True)
        return file.tell(), np.asarray(Image.open(file).convert("RGB"))

    return code


def with_video_encoder(command: EncoderCommand, chroma: Literal["420", "444"], suffix: str) -> Coder:
    def code(path: Path) -> Coded:
        rgb = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        height, width = rgb.shape[:2]
        format = VideoFormat(width=width, height=height, chroma=chroma, matrix="bt601", full_range=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"picture{suffix}"
            encode_elementary_stream([from_rgb(rgb, format, 0)], file, command, format, Fraction(25))
            return file.stat().st_size, pixels(next(iter(decode_elementary_stream(file, format))))

    return code


def with_vcodec(model: str, quality: int) -> Coder:
    def code(path: Path) -> Coded:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture.vcb"
            network = loaded(model)
            vcodec.encode(path, file, model=network, quality=quality)
            return file.stat().st_size, pixels(next(iter(vcodec.decode(file, model=network))))

    return code


@cache
def loaded(model: str) -> ImageModel:
    return load_model(model) if model.endswith(".safetensors") else create_model(model, pretrained=True)


def pixels(frame: vcodec.Frame) -> np.ndarray:
    return (to_rgb(frame).clip(0, 1) * 255).round().astype(np.uint8)


def measure_all(codec: str, points: list[Coder], pictures: list[Path]) -> dict[str, list[RatePoint]]:
    """The curve of every picture."""
    return {path.name: [measure(code, path) for code in points] for path in tqdm(pictures, desc=codec, leave=False)}


def measure(code: Coder, path: Path) -> RatePoint:
    size, decoded = code(path)
    source = np.asarray(Image.open(path).convert("RGB"), np.float64)
    mse = float(np.square(source - decoded).mean())
    return RatePoint(8 * size / source[..., 0].size, 10 * float(np.log10(255**2 / max(mse, 1e-10))))


def mean_curve(curves: dict[str, list[RatePoint]]) -> list[RatePoint]:
    """Mean bpp and mean PSNR over the pictures for every point."""
    return [
        RatePoint(statistics.fmean(p.bpp for p in points), statistics.fmean(p.quality for p in points))
        for points in zip(*curves.values(), strict=True)
    ]


def load(path: Path) -> Curves:
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {
        codec: {name: [RatePoint(*point) for point in points] for name, points in curves.items()}
        for codec, curves in data.items()
    }


def save(path: Path, curves: Curves) -> None:
    data = {
        codec: {name: [(p.bpp, p.quality) for p in points] for name, points in pictures.items()}
        for codec, pictures in curves.items()
    }
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(data) + "\n", encoding="utf-8")
    part.replace(path)


def lines(means: dict[str, list[RatePoint]], curves: Curves, anchors: list[str]) -> Iterator[str]:
    for codec, curve in means.items():
        yield f"{codec}: " + ", ".join(f"{p.bpp:.3f} bpp {p.quality:.2f} dB" for p in curve)
    for anchor in anchors:
        for codec, curve in means.items():
            if codec != anchor:
                delta = bjontegaard_delta(means[anchor], curve)
                stated = (
                    delta.reason if delta.bd_rate is None else f"{delta.bd_rate:+.1f} % ({delta.overlap:.0%} overlap)"
                )
                yield f"BD-rate of {codec} against {anchor}: {stated}{by_picture(curves[anchor], curves[codec])}"


def by_picture(anchor: dict[str, list[RatePoint]], codec: dict[str, list[RatePoint]]) -> str:
    """How the BD-rate varies from picture to picture."""
    deltas = [bjontegaard_delta(anchor[picture], codec[picture]).bd_rate for picture in anchor.keys() & codec.keys()]
    known = [delta for delta in deltas if delta is not None]
    if not known:
        return ""
    under = sum(delta < 0 for delta in known)
    return f"; pictures {min(known):+.1f} to {max(known):+.1f} %, {under} of {len(known)} with less rate"


def figure(curves: dict[str, list[RatePoint]], pictures: int) -> Figure:
    """The mean curves."""
    drawn = Figure(figsize=(8, 5.5), layout="constrained")
    axes = drawn.subplots()
    for index, (codec, curve) in enumerate(curves.items()):
        style: dict[str, Any] = {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}
        style["linestyle"] = "-" if index < len(COLORS) else "--"
        axes.plot([p.bpp for p in curve], [p.quality for p in curve], label=short_name(codec), **style)
    axes.set(xlabel="bits per pixel", ylabel="RGB PSNR (dB)", title=f"Mean over {pictures} pictures")
    axes.grid(alpha=0.3)
    axes.legend()
    return drawn


if __name__ == "__main__":
    main()
