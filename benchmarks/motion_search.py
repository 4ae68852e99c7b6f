"""How fast the encoder's motion search runs in C, as a ratio to the same search in PyTorch, and how alike they are.

    python benchmarks/motion_search.py [--sizes 416x240 1920x1080] [--threads 1 2] [--rounds 5] [--json]

Frames are a texture of all sizes, turned a little, with noise. Both search the same pair in turn, the C library first;
medians and the median of the rounds' ratios count. `differ`: the share of vectors that are further apart than 0.05
pixels; `error`: what a prediction by C's field leaves, relative to PyTorch's.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vcodec.flow.motion_search import has_c_search, motion_search, search_in_pytorch
from vcodec.flow.warp import sample, sampling_grid
from vcodec.memory import keep_freed_memory

Search = Callable[[Tensor, Tensor, Tensor], Tensor]
LAMBDA = torch.tensor([0.02])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["416x240", "1920x1080"], metavar="WxH")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not has_c_search():
        raise SystemExit("the C library was not built: install a C compiler, then install vcodec again")
    keep_freed_memory()
    records = [
        measure(*map(int, size.split("x")), threads, arguments.rounds)
        for size in arguments.sizes
        for threads in arguments.threads
    ]
    if arguments.json:
        print(json.dumps(records))
    else:
        for record in records:
            print(", ".join(f"{key} {value}" for key, value in record.items()))


def measure(width: int, height: int, threads: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    x, reference = moving_pair(height, width)
    seconds: dict[Search, list[float]] = {motion_search: [], search_in_pytorch: []}
    fields: dict[Search, Tensor] = {}
    for turn in range(rounds + 1):
        for search, times in seconds.items():
            start = time.perf_counter()
            fields[search] = search(x, reference, LAMBDA)
            if turn:  # the first one warms up
                times.append(time.perf_counter() - start)
    ours, theirs = seconds.values()
    found, expected = fields.values()
    return {
        "size": f"{width}x{height}",
        "threads": threads,
        "c_ms": round(1e3 * statistics.median(ours), 1),
        "pytorch_ms": round(1e3 * statistics.median(theirs), 1),
        "ratio": round(statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 1),
        "differ": round(((found - expected).abs().amax(1) > 0.05).float().mean().item(), 4),
        "error": round(error(found, x, reference) / error(expected, x, reference), 4),
    }


def moving_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two frames (1, 3, H, W), H and W the next multiples of 16."""
    height, width, generator = height + -height % 16, width + -width % 16, torch.Generator().manual_seed(0)
    textures = [torch.rand(1, 3, height // k + 2, width // k + 2, generator=generator) for k in (2, 8, 32)]
    scene = torch.stack([F.interpolate(t, (height, width), mode="bicubic") for t in textures]).mean(0).clamp(0, 1)
    rows = torch.linspace(-0.02, 0.03, height)[:, None].expand(height, width) * width
    columns = torch.linspace(0.01, -0.03, width).expand(height, width) * height
    current = sample(scene, sampling_grid(torch.stack([rows, columns])[None]))
    noise = 0.01 * torch.randn(2, 3, height, width, generator=generator)
    return (current + noise[:1]).clamp(0, 1), (scene + noise[1:]).clamp(0, 1)


def error(flow: Tensor, x: Tensor, reference: Tensor) -> float:
    """Mean square of what the prediction leaves."""
    full = F.interpolate(flow, scale_factor=4.0, mode="bilinear")
    return (sample(reference, sampling_grid(full)) - x).square().mean().item()


if __name__ == "__main__":
    main()
