"""The C back end: every instruction set, layout, dtype and number of threads gives what it should."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vcodec.kernels import available_backends, cpu, selective_scan, selective_scan_2d
from vcodec.kernels.reference import unavailable

if available_backends()["cpu"] is not None:
    pytest.skip("the C kernels were not built: no compiler", allow_module_level=True)

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
INSTRUCTION_SETS = list(cpu._instruction_sets)


def map_inputs(
    batch: int, channels: int, states: int, height: int, width: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Random arguments of selective_scan_2d that take gradients, the same numbers for every dtype."""
    random = torch.Generator().manual_seed(channels * 1000 + states * 100 + height * 10 + width)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    u, delta = draw(batch, channels, height, width), 0.5 * draw(batch, 4, channels, height, width) - 1
    B, C = draw(batch, 4, states, height, width), draw(batch, 4, states, height, width)
    A, D, bias = -torch.exp(0.5 * draw(4, channels, states)), draw(4, channels), 0.3 * draw(4, channels)
    return [x.to(dtype).requires_grad_() for x in (u, delta, A, B, C, D, bias)]


def outputs(inputs: list[Tensor], backend: str = "cpu", softplus: bool = True) -> list[Tensor]:
    """y and the gradient of every input, for a gradient of y that differs from place to place."""
    y = selective_scan_2d(*inputs, delta_softplus=softplus, backend=backend)
    weight = torch.sin(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, inputs, weight)]


def relative_errors(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    return [
        float((f.detach().double() - e.detach().double()).abs().max() / e.detach().abs().max().clamp_min(1e-30))
        for f, e in zip(found, expected, strict=True)
    ]


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("states", [1, 3, 16])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_lower_instruction_sets_work_on_any_processor(
    monkeypatch: pytest.MonkeyPatch, name: str, states: int, dtype: torch.dtype, tolerance: float
) -> None:
    monkeypatch.setattr(cpu, "_best", cpu._instruction_sets[name])
    expected = outputs(map_inputs(2, 37, states, 7, 9, torch.float64), "reference")
    y, *gradients = relative_errors(outputs(map_inputs(2, 37, states, 7, 9, dtype)), expected)
    assert y < tolerance
    assert max(gradients) < 10 * tolerance


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exp_is_good_to_the_last_places(monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype) -> None:
    monkeypatch.setattr(cpu, "_best", cpu._instruction_sets[name])
    x = torch.linspace(-60, 1, 64 * torch.get_num_threads() * 50, dtype=dtype)
    y, exact = torch.empty_like(x), torch.exp(x.to(torch.float64))
    cpu.exp(x, y)
    # In float32, x is rounded once more when it becomes a power of two: |x| half-places of the result.
    places = 2 + (x.abs() if dtype == torch.float32 else 0)
    assert ((y - exact).abs() <= places * torch.finfo(dtype).eps * exact).all()


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3), channels=st.integers(1, 70), states=st.integers(1, 18), height=st.integers(1, 11),
    width=st.integers(1, 11), softplus=st.booleans(),
)  # fmt: skip
def test_gradients_equal_the_references_on_any_shape(
    batch: int, channels: int, states: int, height: int, width: int, softplus: bool
) -> None:
    exact = map_inputs(batch, channels, states, height, width, torch.float64)
    if not softplus:
        exact[1] = exact[1].detach().abs().requires_grad_()  # steps are not negative
        exact[6] = exact[6].detach().abs().requires_grad_()
    single = [x.detach().float().requires_grad_() for x in exact]
    y, *gradients = relative_errors(outputs(single, softplus=softplus), outputs(exact, "reference", softplus))
    assert y < 1e-5
    assert max(gradients) < 1e-4


@pytest.mark.parametrize("channels", [48, 200])
@pytest.mark.parametrize("states", [1, 16])
def test_one_and_two_threads_and_repeated_runs_give_the_same_bits(channels: int, states: int) -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2, 1):
            torch.set_num_threads(threads)
            results.append(outputs(map_inputs(1, channels, states, 19, 23)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("last", [True, False])
def test_strides_of_the_inputs_do_not_change_a_bit(last: bool) -> None:
    inputs = map_inputs(2, 20, 3, 6, 5)
    plain = outputs(inputs)
    strided = [x.detach().repeat_interleave(2, dim=-1)[..., ::2].requires_grad_() for x in inputs]
    if last:
        strided = [
            x.detach().movedim(-3, -1).contiguous().movedim(-1, -3).requires_grad_() if x.dim() > 3 else x
            for x in inputs
        ]
    found = outputs(strided)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    assert found[0].stride() == torch.empty_like(strided[0]).stride()


def test_large_and_negative_exponents_neither_overflow_nor_vanish() -> None:
    u, delta, A, B, C, D, bias = (x.detach() for x in map_inputs(1, 16, 2, 4, 4))
    for scale in (0.0, 1e-3, 100.0, 1e4):
        arguments = (u, delta * scale, A * scale, B, C, D, bias)
        exact = selective_scan_2d(*(x.double() for x in arguments), delta_softplus=True, backend="reference")
        y = selective_scan_2d(*arguments, delta_softplus=True, backend="cpu")
        assert relative_errors([y], [exact])[0] < 1e-5


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (1, 4, 0, 3), (1, 4, 3, 0)])
def test_empty_maps_give_empty_maps(shape: tuple[int, ...]) -> None:
    batch, channels, height, width = shape
    y, *gradients = outputs(map_inputs(batch, channels, 2, height, width))
    assert y.shape == shape
    assert all(not g.any() for g in gradients)


@pytest.mark.parametrize("with_skip", [True, False])
def test_optional_arguments_may_be_left_out(with_skip: bool) -> None:
    inputs = map_inputs(1, 6, 2, 4, 5)
    D, bias = (inputs[5], None) if with_skip else (None, inputs[6])
    y, expected = (selective_scan_2d(*inputs[:5], D, bias, True, backend=b) for b in ("cpu", "reference"))
    assert relative_errors([y], [expected])[0] < 1e-5
    y.sum().backward()
    assert (D if with_skip else bias).grad is not None


def test_a_sequence_with_groups_equals_the_reference_in_every_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 12, 30), (2, 12, 30), (12, 4), (2, 3, 4, 30), (2, 3, 4, 30), (12,), (12,))
    inputs = [torch.randn(s, generator=random) for s in shapes]
    inputs[2] = -inputs[2].exp()
    found = {}
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        y = selective_scan(*leaves, delta_softplus=True, backend=backend)
        found[backend] = [y.detach(), *torch.autograd.grad(y.square().sum(), leaves)]
    assert max(relative_errors(found["cpu"], found["reference"])) < 1e-4


def test_a_map_that_would_need_permuted_copies_takes_little_more_than_its_output() -> None:
    """Inputs in the fast layout are read where they lie: the C code's scratch is all there is besides y."""
    inputs = [x.detach() for x in map_inputs(1, 32, 1, 16, 16)]
    inputs = [x.movedim(-3, -1).contiguous().movedim(-1, -3) if x.dim() > 3 else x for x in inputs]
    prepared = cpu._prepare(*(x.unsqueeze(2) if i in (3, 4) else x for i, x in enumerate(inputs)))
    assert all(p.data_ptr() == x.data_ptr() for p, x in zip(prepared, inputs, strict=True))


def test_without_the_c_library_the_reference_is_used_and_the_loss_is_told() -> None:
    program = (
        "import sys; sys.modules['vcodec.kernels._selective_scan'] = None\n"
        "import torch; from vcodec.kernels import available_backends, resolve_backend, selective_scan_2d\n"
        "print(resolve_backend('cpu', torch.float32)); print(available_backends()['cpu'])\n"
        "m = torch.ones(1, 4, 2, 3, 3)\n"
        "print(selective_scan_2d(m[:, 0], m, -torch.ones(4, 2, 1), m[:, :, :1], m[:, :, :1]).shape)\n"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    backend, reason, shape = output.splitlines()
    assert backend == "reference"
    assert "C compiler" in reason
    assert shape == "torch.Size([1, 2, 3, 3])"
    assert unavailable() is None
