"""The semantic-aware block and the low-rank reduction."""

import pytest
import torch
import torch.nn.functional as F

from vcodec.layers.low_rank import LowRankReduction
from vcodec.layers.semantic import SemanticBlock, SemanticRouter, semantic_order
from vcodec.layers.transform import Synthesis, TransformConfig


def one_hot(clusters: list[list[int]], count: int) -> torch.Tensor:
    return F.one_hot(torch.tensor(clusters), count).permute(2, 0, 1)[None].float()


def test_positions_are_scanned_by_cluster_and_in_reading_order_within_one() -> None:
    assert semantic_order(one_hot([[1, 0, 1], [0, 2, 0]], 3)).tolist() == [[1, 3, 5, 0, 2, 4]]


def test_a_position_reads_those_before_it_in_semantic_order_alone() -> None:
    torch.manual_seed(0)
    block = SemanticBlock(8, d_state=2, expand=1.0, clusters=2, routed=True).double().eval()
    block.depthwise.weight.data[:, :, :1] = block.depthwise.weight.data[:, :, 2:] = 0  # leave places to the scan
    block.depthwise.weight.data[..., 0] = block.depthwise.weight.data[..., 2] = 0
    x = torch.randn(1, 8, 1, 4, dtype=torch.float64, requires_grad=True)
    y = block(x, one_hot([[1, 0, 1, 0]], 2).double())
    reads = [
        torch.autograd.grad(y[0, :, 0, i].sum(), x, retain_graph=True)[0].abs().sum((0, 1, 2)) > 0 for i in range(4)
    ]
    assert [row.tolist() for row in reads] == [
        [True, True, False, True],
        [False, True, False, False],
        [True, True, True, True],
        [False, True, False, True],
    ]


def test_routing_is_noisy_in_training_and_certain_after() -> None:
    torch.manual_seed(0)
    router, x = SemanticRouter(8, 4), torch.randn(1, 8, 16, 16)
    assert not torch.equal(router(x), router(x))
    router.eval()
    assignment = router(x)
    assert torch.equal(assignment, router(x))
    assert torch.equal(assignment.sum(1), torch.ones(1, 16, 16))


def test_weak_components_vanish_and_no_threshold_is_the_identity() -> None:
    reduction, x = LowRankReduction(6), torch.randn(2, 6, 5, 7)
    reduction.threshold_root.data.zero_()
    assert torch.allclose(reduction(x), x, atol=1e-5)
    reduction.threshold_root.data.fill_(10.0)
    assert torch.equal(reduction(x), torch.zeros_like(x))
    reduction.threshold_root.data.zero_()
    reduction.threshold_root.data[2:] = 10.0
    low_rank = reduction(x)[0].flatten(1)
    assert torch.linalg.matrix_rank(low_rank, atol=1e-4) == 2


def test_a_synthesis_that_nobody_routes_is_refused() -> None:
    with pytest.raises(ValueError, match="exact latents decide its routing"):
        Synthesis(3, TransformConfig(kind="semantic"))
