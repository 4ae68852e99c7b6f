"""Rate and PSNR on still pictures: vcodec's image codecs beside JPEG, WebP, AVIF and x265 intra, by decoded files.

    python benchmarks/kodak.py PICTURES... --model a.safetensors b.safetensors [--output kodak.json] [--limit 4]

Every point is the size of a real file (x265: a bare stream) and the PSNR in RGB of that file, decoded. Means are over
pictures; BD-rates are stated against WebP and against the first model, where curves share at least half their quality.
"""

import argparse
import io
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, features
from tqdm import tqdm

import vcodec
from vcodec.evaluation.analysis import find_pictures
from vcodec.evaluation.bd_rate import RatePoint, bjontegaard_delta
from vcodec.evaluation.standard_codecs import EncoderCommand, decode_elementary_stream, encode_elementary_stream
from vcodec.video import VideoFormat, from_rgb, to_rgb

Coded = tuple[int, np.ndarray]  # bytes of the file, decoded picture (H, W, 3) uint8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pictures", type=Path, nargs="+", help="pictures, or folders of them")
    parser.add_argument("--model", nargs="*", default=["default"], help="names or weight files (default: default)")
    parser.add_argument("--qualities", type=int, nargs="+", default=[4, 16, 28, 40, 52], help="of vcodec's models")
    parser.add_argument("--limit", type=int, help="only the first so many pictures")
    parser.add_argument("--output", type=Path, help="also write all points as JSON")
    options = parser.parse_args()
    curves = {
        codec: mean_curve(codec, points, find_pictures(options.pictures)[: options.limit])
        for codec, points in codecs(options.model, options.qualities).items()
    }
    print(table(curves, options.model))
    if options.output:
        data = {codec: [(p.bpp, p.quality) for p in curve] for codec, curve in curves.items()}
        options.output.write_text(json.dumps(data, indent=1) + "\n")


def codecs(models: list[str], qualities: list[int]) -> dict[str, list[Callable[[Path], Coded]]]:
    """For each codec a function for each point of its curve: picture file to coded size and decoded picture."""
    found: dict[str, list[Callable[[Path], Coded]]] = {
        "JPEG": [with_pillow("JPEG", q) for q in (10, 25, 45, 65, 80, 90)],
        "WebP": [with_pillow("WEBP", q) for q in (5, 25, 50, 70, 85, 93)],
    }
    if features.check("avif"):
        found["AVIF"] = [with_pillow("AVIF", q) for q in (20, 35, 50, 65, 80)]
    found["x265 intra 4:4:4"] = [with_x265(crf) for crf in (19, 23, 27, 31, 35, 39)]
    for model in models:
        found[model] = [with_vcodec(model, quality) for quality in qualities]
    return found


def with_pillow(format: str, quality: int) -> Callable[[Path], Coded]:
    def code(path: Path) -> Coded:
        file = io.BytesIO()
        Image.open(path).convert("RGB").save(file, format, quality=quality)
        return file.tell(), np.asarray(Image.open(file).convert("RGB"))

    return code


def with_x265(crf: int) -> Callable[[Path], Coded]:
    def code(path: Path) -> Coded:
        rgb = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        format = VideoFormat(
            width=rgb.shape[1], height=rgb.shape[0], chroma="444", bit_depth=8, matrix="bt601", full_range=True
        )
        command = EncoderCommand(
            "libx265", {"preset": "medium", "crf": str(crf), "x265-params": "keyint=1:log-level=0"}
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture.hevc"
            sizes = encode_elementary_stream([from_rgb(rgb, format, 0)], file, command, format, Fraction(25))
            frame = next(iter(decode_elementary_stream(file, format)))
        return sum(sizes), (to_rgb(frame).clip(0, 1) * 255).round().astype(np.uint8)

    return code


def with_vcodec(model: str, quality: int) -> Callable[[Path], Coded]:
    def code(path: Path) -> Coded:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture.vcb"
            vcodec.encode(path, file, model=model, quality=quality)
            given = model if model.endswith(".safetensors") else None
            frame = next(iter(vcodec.decode(file, model=given)))
            return file.stat().st_size, (to_rgb(frame).clip(0, 1) * 255).round().astype(np.uint8)

    return code


def mean_curve(codec: str, points: list[Callable[[Path], Coded]], pictures: list[Path]) -> list[RatePoint]:
    """Mean bpp and mean PSNR over the pictures for every point."""
    curve = []
    for code in tqdm(points, desc=codec, leave=False):
        measured = [measure(code, path) for path in pictures]
        curve.append(
            RatePoint(statistics.fmean(m.bpp for m in measured), statistics.fmean(m.quality for m in measured))
        )
    return curve


def measure(code: Callable[[Path], Coded], path: Path) -> RatePoint:
    size, decoded = code(path)
    source = np.asarray(Image.open(path).convert("RGB"), np.float64)
    mse = float(np.square(source - decoded).mean())
    return RatePoint(8 * size / source[..., 0].size, 10 * float(np.log10(255**2 / max(mse, 1e-10))))


def table(curves: dict[str, list[RatePoint]], models: list[str]) -> str:
    return "\n".join(lines(curves, ["WebP", *models[:1]]))


def lines(curves: dict[str, list[RatePoint]], anchors: list[str]) -> Iterator[str]:
    for codec, curve in curves.items():
        yield f"{codec}: " + ", ".join(f"{p.bpp:.3f} bpp {p.quality:.2f} dB" for p in curve)
    for anchor in anchors:
        for codec, curve in curves.items():
            if codec != anchor:
                delta = bjontegaard_delta(curves[anchor], curve)
                stated = (
                    delta.reason if delta.bd_rate is None else f"{delta.bd_rate:+.1f} % ({delta.overlap:.0%} overlap)"
                )
                yield f"BD-rate of {codec} against {anchor}: {stated}"


if __name__ == "__main__":
    main()
