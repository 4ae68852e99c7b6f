"""Every back end against the scan written out step by step in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vcodec.errors import VcodecError
from vcodec.kernels import available_backends, resolve_backend, selective_scan, selective_scan_2d, use_backend

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
BACKENDS = [name for name in ("reference", "cpu") if available_backends()[name] is None]


def inputs_2d(batch: int, channels: int, states: int, height: int, width: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random arguments of selective_scan_2d, the same numbers for every dtype."""
    generator = torch.Generator().manual_seed(channels * 1000 + states * 100 + height * 10 + width)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {
        "u": random(batch, channels, height, width),
        "delta": 0.5 * random(batch, 4, channels, height, width) - 1,
        "A": -torch.exp(0.5 * random(4, channels, states)),
        "B": random(batch, 4, states, height, width),
        "C": random(batch, 4, states, height, width),
        "D": random(4, channels),
        "delta_bias": 0.3 * random(4, channels),
    }
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def scan_by_definition(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor
) -> Tensor:
    """Mamba's recurrence over the four orders of MambaVC's equations 15 to 18, added up at each position."""
    _, channels, height, width = u.shape
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    y = torch.zeros_like(u)
    for direction, order in enumerate((rows, rows[::-1], columns, columns[::-1])):
        state = u.new_zeros(u.shape[0], channels, A.shape[-1])
        for i, j in order:
            step = torch.nn.functional.softplus(delta[:, direction, :, i, j] + delta_bias[direction])
            x = u[:, :, i, j]
            state = torch.exp(step[..., None] * A[direction]) * state
            state = state + (step * x)[..., None] * B[:, direction, None, :, i, j]
            y[:, :, i, j] = y[:, :, i, j] + (state * C[:, direction, None, :, i, j]).sum(-1) + D[direction] * x
    return y


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("states", [1, 4, 16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 1), (6, 9)])
def test_four_directions_equal_their_definition(backend: str, states: int, height: int, width: int) -> None:
    expected = scan_by_definition(**inputs_2d(2, 20, states, height, width, torch.float64))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        y = selective_scan_2d(**inputs_2d(2, 20, states, height, width, dtype), delta_softplus=True, backend=backend)
        assert y.dtype == dtype
        assert relative_error(y, expected) < tolerance


@pytest.mark.parametrize("states", [1, 3, 16])
def test_gradients_of_the_c_kernel_equal_those_of_the_reference(states: int) -> None:
    if "cpu" not in BACKENDS:
        pytest.skip("the C kernels were not built: no compiler")
    gradients = {}
    for backend, dtype in (("reference", torch.float64), ("cpu", torch.float32)):
        arguments = inputs_2d(2, 24, states, 7, 10, dtype)
        leaves = {name: tensor.requires_grad_() for name, tensor in arguments.items()}
        y = selective_scan_2d(**leaves, delta_softplus=True, backend=backend)
        weight = torch.sin(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(dtype)
        (y * weight).sum().backward()
        gradients[backend] = [leaves[name].grad for name in NAMES]
    for name, expected, found in zip(NAMES, gradients["reference"], gradients["cpu"], strict=True):
        assert relative_error(found, expected) < 1e-4, name


def test_gradients_that_are_stored_past_the_caches_are_those_of_half_the_channels() -> None:
    """Those of delta take 16 MB here, and 8 for half of the channels; channels don't know of each other."""
    if "cpu" not in BACKENDS:
        pytest.skip("the C kernels were not built: no compiler")

    def gradient_of_delta(channels: slice) -> Tensor:
        arguments = inputs_2d(1, 64, 1, 128, 128, torch.float32)
        for name, dim in (("u", 1), ("delta", 2), ("A", 1), ("D", 1), ("delta_bias", 1)):
            arguments[name] = arguments[name].movedim(dim, 0)[channels].movedim(0, dim).contiguous()
        delta = arguments["delta"].requires_grad_()
        selective_scan_2d(**arguments, delta_softplus=True, backend="cpu").square().sum().backward()
        assert delta.grad is not None
        return delta.grad

    halves = [gradient_of_delta(slice(0, 32)), gradient_of_delta(slice(32, 64))]
    assert torch.equal(gradient_of_delta(slice(0, 64)), torch.cat(halves, dim=2))


def test_gradients_of_the_reference_are_derivatives() -> None:
    arguments = [tensor.requires_grad_() for tensor in inputs_2d(1, 2, 2, 2, 3, torch.float64).values()]
    assert torch.autograd.gradcheck(
        lambda *tensors: selective_scan_2d(*tensors, delta_softplus=True, backend="reference"), arguments
    )


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 40), states=st.integers(1, 17), height=st.integers(1, 12), width=st.integers(1, 12),
    batch=st.integers(1, 2),
)  # fmt: skip
def test_back_ends_agree_on_any_shape(channels: int, states: int, height: int, width: int, batch: int) -> None:
    expected = selective_scan_2d(
        **inputs_2d(batch, channels, states, height, width, torch.float64), delta_softplus=True, backend="reference"
    )
    for backend in BACKENDS:
        arguments = inputs_2d(batch, channels, states, height, width, torch.float32)
        assert relative_error(selective_scan_2d(**arguments, delta_softplus=True, backend=backend), expected) < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_and_repetition_do_not_change_a_bit(backend: str) -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            leaves = {n: t.requires_grad_() for n, t in inputs_2d(2, 48, 4, 13, 11, torch.float32).items()}
            y = selective_scan_2d(**leaves, delta_softplus=True, backend=backend)
            y.square().sum().backward()
            results.append([y.detach(), *(leaves[name].grad for name in NAMES)])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_layout_of_the_input_is_kept_and_does_not_matter(backend: str) -> None:
    arguments = inputs_2d(2, 12, 2, 6, 5, torch.float32)
    plain = selective_scan_2d(**arguments, delta_softplus=True, backend=backend)
    last = {**arguments, "u": arguments["u"].contiguous(memory_format=torch.channels_last)}
    y = selective_scan_2d(**last, delta_softplus=True, backend=backend)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, plain)
    strided = {**arguments, "u": torch.repeat_interleave(arguments["u"], 2, dim=3)[..., ::2]}
    torch.testing.assert_close(selective_scan_2d(**strided, delta_softplus=True, backend=backend), plain)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("groups", [None, 1, 2])
def test_sequence_equals_the_row_direction_of_a_map_of_one_row(backend: str, groups: int | None) -> None:
    generator = torch.Generator().manual_seed(3)
    batch, channels, states, length = 2, 6, 3, 11
    u = torch.randn(batch, channels, length, generator=generator, dtype=torch.float64)
    delta = torch.randn(batch, channels, length, generator=generator, dtype=torch.float64)
    A = -torch.rand(channels, states, generator=generator, dtype=torch.float64)
    shape = (batch, states, length) if groups is None else (batch, groups, states, length)
    B, C = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    y = selective_scan(u, delta, A, B, C, delta_softplus=True, backend=backend)
    state, expected = u.new_zeros(batch, channels, states), []
    wide_B, wide_C = (
        (t[:, None] if groups is None else t).repeat_interleave(channels // (groups or 1), dim=1) for t in (B, C)
    )
    for t in range(length):
        step = torch.nn.functional.softplus(delta[..., t])[..., None]
        state = torch.exp(step * A) * state + step * wide_B[..., t] * u[..., t, None]
        expected.append((state * wide_C[..., t]).sum(-1))
    assert relative_error(y, torch.stack(expected, -1)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_state_in_fp32(dtype: torch.dtype) -> None:
    arguments = inputs_2d(1, 16, 4, 8, 8, dtype)
    exact = selective_scan_2d(**{n: t.double() for n, t in arguments.items()}, delta_softplus=True)
    y = selective_scan_2d(**arguments, delta_softplus=True)
    assert y.dtype == dtype
    assert relative_error(y, exact) < 4 * torch.finfo(dtype).eps


def test_back_end_can_be_chosen_and_asked_for() -> None:
    with use_backend("reference"):
        assert resolve_backend(torch.device("cpu"), torch.float32) == "reference"
    assert resolve_backend(torch.device("cpu"), torch.float32) == BACKENDS[-1]
    with pytest.raises(VcodecError):
        resolve_backend(torch.device("cpu"), torch.float32, "no such back end")


def test_shapes_that_do_not_fit_are_refused_in_a_sentence() -> None:
    arguments = inputs_2d(1, 4, 2, 3, 3, torch.float32)
    with pytest.raises(VcodecError):
        selective_scan_2d(**{**arguments, "A": arguments["A"][:, :-1]})


def test_operator_passes_opcheck() -> None:
    arguments = inputs_2d(1, 4, 2, 3, 2, torch.float32)
    leaves = [tensor.requires_grad_() for tensor in arguments.values()]
    torch.library.opcheck(torch.ops.vcodec.selective_scan_2d.default, (*leaves, True, BACKENDS[-1]))
