"""The PyTorch operators: checked by PyTorch, compiled, under autocast, differentiated, refused in a sentence."""

import pytest
import torch
from torch import Tensor

from vcodec.errors import VcodecError
from vcodec.kernels import available_backends, resolve_backend, selective_scan, selective_scan_2d, use_backend

BACKENDS = [name for name in ("reference", "cpu") if available_backends()[name] is None]


def sequence_inputs(dtype: torch.dtype = torch.float32, groups: int = 2) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    shapes = ((1, 4, 5), (1, 4, 5), (4, 2), (1, groups, 2, 5), (1, groups, 2, 5), (4,), (4,))
    inputs = [torch.randn(s, generator=random, dtype=dtype) for s in shapes]
    inputs[2] = -inputs[2].exp()
    return [x.requires_grad_() for x in inputs]


def map_inputs(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    random = torch.Generator().manual_seed(2)
    shapes = ((1, 3, 2, 3), (1, 4, 3, 2, 3), (4, 3, 2), (1, 4, 2, 2, 3), (1, 4, 2, 2, 3), (4, 3), (4, 3))
    inputs = [torch.randn(s, generator=random, dtype=dtype) for s in shapes]
    inputs[2] = -inputs[2].exp()
    return [x.requires_grad_() for x in inputs]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("softplus", [True, False])
def test_operators_pass_opcheck(backend: str, softplus: bool) -> None:
    torch.library.opcheck(torch.ops.vcodec.selective_scan_2d.default, (*map_inputs(), softplus, backend))
    torch.library.opcheck(torch.ops.vcodec.selective_scan.default, (*sequence_inputs(), softplus, backend))


def test_backward_operator_passes_opcheck() -> None:
    inputs = [x.detach() for x in map_inputs()]
    arguments = (torch.ones_like(inputs[0]), *inputs, True, BACKENDS[-1])
    torch.library.opcheck(torch.ops.vcodec.selective_scan_2d_backward.default, arguments)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_derivatives_in_float64(backend: str) -> None:
    def of_map(*tensors: Tensor) -> Tensor:
        return selective_scan_2d(*tensors, delta_softplus=True, backend=backend)

    def of_sequence(*tensors: Tensor) -> Tensor:
        return selective_scan(*tensors, delta_softplus=True, backend=backend)

    assert torch.autograd.gradcheck(of_map, map_inputs(torch.float64))
    assert torch.autograd.gradcheck(of_sequence, sequence_inputs(torch.float64))


def test_compiled_in_one_graph_it_gives_the_same_bits() -> None:
    def scan(*tensors: Tensor) -> Tensor:
        return selective_scan_2d(*tensors, delta_softplus=True) * 2

    inputs = map_inputs()
    compiled = torch.compile(scan, fullgraph=True, backend="aot_eager")
    expected, found = scan(*inputs), compiled(*inputs)
    assert torch.equal(found, expected)
    for a, b in zip(torch.autograd.grad(found.sum(), inputs), torch.autograd.grad(expected.sum(), inputs), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_under_autocast_mixed_inputs_keep_a_fp32_state(backend: str) -> None:
    """Autocast makes the projections' results bf16 and leaves parameters fp32."""
    inputs = map_inputs()
    mixed = [x.detach().bfloat16().requires_grad_() if i in (1, 3, 4) else x for i, x in enumerate(inputs)]
    with torch.autocast("cpu", torch.bfloat16):
        y = selective_scan_2d(*mixed, delta_softplus=True, backend=backend)
    exact = selective_scan_2d(*(x.detach().double() for x in mixed), delta_softplus=True, backend="reference")
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(y.sum(), mixed)
    assert [g.dtype for g in gradients] == [x.dtype for x in mixed]


def test_innermost_context_counts_and_an_argument_comes_before_it() -> None:
    with use_backend("reference"):
        assert resolve_backend("cpu", torch.float32) == "reference"
        assert resolve_backend("cpu", torch.float32, BACKENDS[-1]) == BACKENDS[-1]
        with use_backend(None):
            assert resolve_backend("cpu", torch.float32) == BACKENDS[-1]
        assert resolve_backend("cpu", torch.float32) == "reference"
    assert resolve_backend("cpu", torch.float32) == BACKENDS[-1]


def test_a_back_end_that_is_missing_is_refused_with_what_it_lacks() -> None:
    missing = [(name, reason) for name, reason in available_backends().items() if reason is not None]
    for name, reason in missing:
        with pytest.raises(VcodecError) as error, use_backend(name):
            pass
        assert reason in str(error.value)


@pytest.mark.skipif("cpu" not in BACKENDS, reason="the C kernels were not built: no compiler")
def test_a_back_end_for_another_device_or_type_is_refused() -> None:
    with pytest.raises(VcodecError, match="does not take"):
        resolve_backend("cuda", torch.float32, "cpu")
    with pytest.raises(VcodecError, match="does not take"):
        resolve_backend("cpu", torch.float8_e4m3fn, "cpu")


@pytest.mark.parametrize("position", range(7))
def test_every_argument_of_a_wrong_shape_is_refused(position: int) -> None:
    for scan, inputs in ((selective_scan, sequence_inputs()), (selective_scan_2d, map_inputs())):
        wrong = [x[..., :-1] if i == position else x for i, x in enumerate(inputs)]
        with pytest.raises(VcodecError, match="but got u"):
            scan(*wrong)
