"""How fast the default model codes against CompressAI's ssf2020, what framing and black frames cost, and how much
memory 1080p takes: one run, one table.

    python benchmarks/codec_speed.py [--model NAME] [--threads 2] [--json]

Both codecs get the same frames (416x240, I + 11 P) and are timed from pictures to bytes and back; ours includes the
conversion from and to YUV. The peer has random weights (none are published), which changes its bytes, not its time
in the networks. Pairs are repeated, and the median ratio counts.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from vcodec.bitstream import StreamHeader, StreamWriter
from vcodec.codec import Decoder, Encoder
from vcodec.evaluation.compressai_import import import_compressai
from vcodec.files import decode, find_model
from vcodec.models import ImageModel, save_model
from vcodec.models.weights import weights_hash
from vcodec.video import Frame, VideoFormat, from_rgb, to_rgb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5, help="repetitions, ours and the peer's in turn")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", metavar="STREAM", help=argparse.SUPPRESS)  # for a process of its own
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = _model(arguments.model)
    if arguments.memory_of:
        return _decode_1080p(model, arguments.memory_of)
    results = {"model": model.name, "threads": arguments.threads}
    results |= _against_ssf2020(model, arguments.pairs)
    for width, height in ((416, 240), (1920, 1080)):
        sizes = _black_pframes(model, width, height)
        results[f"black_{width}x{height}_bytes_per_pframe"] = round(sum(sizes) / len(sizes), 1)
        results[f"black_{width}x{height}_dearest_pframe"] = max(sizes)
    results["pframe_framing_bytes"] = _framing(model)
    results["decode_1080p_peak_mib"] = _peak_of_1080p(model)
    if arguments.json:
        print(json.dumps(results))
    else:
        for key, value in results.items():
            print(f"{key:36s} {value}")


def _model(name: str) -> ImageModel:
    model = find_model(name)
    if not model.has_tables:
        model.update()  # without trained weights the times are the same
    return model


def _against_ssf2020(model: ImageModel, pairs: int) -> dict[str, float]:
    import_compressai()
    video = import_compressai("compressai.models.video")
    peer = video.ScaleSpaceFlow().eval()
    peer.update(force=True)
    frames = _moving_picture(416, 240, 12)
    # the peer takes multiples of 128 only
    pictures = [F.pad(torch.from_numpy(to_rgb(f)).permute(2, 0, 1)[None], (0, 96, 0, 16)) for f in frames]
    seconds: dict[str, list[float]] = {"peer_encode": [], "peer_decode": [], "encode": [], "decode": []}
    for _ in tqdm(range(pairs), desc="pairs", file=sys.stderr):
        encoder, decoder = Encoder(model, frames[0].format), Decoder(model, frames[0].format)
        with torch.inference_mode():
            coded = _timed(seconds["peer_encode"], peer.compress, pictures)
            _timed(seconds["peer_decode"], peer.decompress, *coded)
        packets = _timed(seconds["encode"], _each, encoder.encode, frames)
        _timed(seconds["decode"], _each, decoder.decode, packets)
    rates = {f"{name}_frames_per_second": round(12 / statistics.median(s), 2) for name, s in seconds.items()}
    for name in ("encode", "decode"):
        ratios = [a / b for a, b in zip(seconds[f"peer_{name}"], seconds[name], strict=True)]
        rates[f"{name}_times_ssf2020"] = round(statistics.median(ratios), 2)
    return rates


def _black_pframes(model: ImageModel, width: int, height: int) -> list[int]:
    """Bytes of the P-frames of a black group of twelve pictures, framing and everything counted."""
    format = VideoFormat(width, height)
    black = [from_rgb(np.zeros((height, width, 3), np.float32), format, pts) for pts in range(12)]
    return _written(model, black)[1:]


def _framing(model: ImageModel) -> int:
    """The most bytes of framing on a P-frame of a moving clip."""
    frames = _moving_picture(128, 64, 6)
    encoder = Encoder(model, frames[0].format)
    payloads = [len(encoder.encode(frame).payload) for frame in frames]
    whole = _written(model, frames)
    return max(size - payload for size, payload in zip(whole[1:], payloads[1:], strict=True))


def _written(model: ImageModel, frames: list[Frame]) -> list[int]:
    """How many bytes each frame adds to a stream."""
    return _write(model, frames, BytesIO())


def _write(model: ImageModel, frames: list[Frame], file: BinaryIO) -> list[int]:
    encoder, rate = Encoder(model, frames[0].format), Fraction(25)
    header = StreamHeader(model.name, weights_hash(model), frames[0].format, rate, 1 / rate)
    with StreamWriter(file, header) as writer:
        return [writer.write(encoder.encode(frame)) for frame in frames]


def _decode_1080p(model: ImageModel, stream: str) -> None:
    """Prints the peak memory in MiB of this process after it has decoded the stream."""
    for _ in decode(stream, model=model):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _peak_of_1080p(model: ImageModel) -> float:
    """Encodes three frames of 1080p here and decodes them in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        weights, stream = f"{folder}/model.safetensors", f"{folder}/stream.vcb"
        save_model(model, weights)
        with open(stream, "wb") as file:
            _write(model, _moving_picture(1920, 1080, 3), file)
        command = [sys.executable, __file__, "--model", weights, "--memory-of", stream]
        return round(float(subprocess.run(command, capture_output=True, check=True, text=True).stdout), 1)


def _moving_picture(width: int, height: int, count: int) -> list[Frame]:
    """A textured picture that moves by two pixels a frame."""
    noise = np.random.default_rng(0).random((height // 4 + 8, width // 4 + 16, 3), dtype=np.float32)
    texture = torch.from_numpy(noise).permute(2, 0, 1)[None]
    large = F.interpolate(texture, scale_factor=4.0, mode="bicubic")[0].clamp(0, 1).permute(1, 2, 0).numpy()
    format = VideoFormat(width, height)
    return [from_rgb(large[i : i + height, 2 * i : 2 * i + width], format, i) for i in range(count)]


def _timed(times: list[float], call: Callable[..., Any], *arguments: Any) -> Any:
    start = time.perf_counter()
    result = call(*arguments)
    times.append(time.perf_counter() - start)
    return result


def _each(call: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [call(item) for item in items]


if __name__ == "__main__":
    main()
