"""Run as a program with TRITON_INTERPRET=1: the Triton back end on the CPU against the reference, tiny sizes.

Prints one line a case: the largest relative error of y and that of the gradients, and whether a second run gave the
same bits.
"""

import sys
from collections.abc import Callable

import torch

from vcodec.kernels import selective_scan, selective_scan_2d

CASES = {
    # batch, channels, states, height, width
    "map": (1, 3, 2, 3, 4),
    "column": (1, 2, 1, 9, 1),
    "batch": (2, 5, 3, 2, 3),
}


def main(dtype: torch.dtype) -> None:
    for name, (batch, channels, states, height, width) in CASES.items():
        size, batched = (height, width), (batch, 4)
        shapes = ((batch, channels, *size), (*batched, channels, *size), (4, channels, states))
        shapes += ((*batched, states, *size), (*batched, states, *size), (4, channels), (4, channels))
        check(name, selective_scan_2d, shapes, dtype)
    check("sequence", selective_scan, ((1, 4, 7), (1, 4, 7), (4, 2), (1, 2, 2, 7), (1, 2, 2, 7), (4,), (4,)), dtype)


def check(
    name: str, scan: Callable[..., torch.Tensor], shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype
) -> None:
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random).to(dtype) for shape in shapes]
    inputs[2] = -inputs[2].exp()
    results = []
    for backend, type_ in (("reference", torch.float64), ("triton", dtype), ("triton", dtype)):
        leaves = [x.to(type_).requires_grad_() for x in inputs]
        y = scan(*leaves, delta_softplus=True, backend=backend)
        weight = torch.sin(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(type_)
        results.append([y.detach(), *torch.autograd.grad(y, leaves, weight)])
    exact, found, again = results
    errors = [float((f.double() - e).abs().max() / e.abs().max()) for f, e in zip(found, exact, strict=True)]
    same = all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    print(name, errors[0], max(errors[1:]), same)


if __name__ == "__main__":
    main(getattr(torch, sys.argv[1]))
