"""Analysis and synthesis: shapes for every kind, size and stride, and the linear shortcut they start from."""

from dataclasses import replace

import pytest
import torch

from vcodec.layers.transform import KINDS, Analysis, Synthesis, TransformConfig

PAPER = TransformConfig(widths=(8, 8, 12), strides=(2, 2, 2), kernels=(5, 5, 5), depths=(1, 2), window=4, head_width=4)
SHUFFLED = replace(PAPER, widths=(8, 8, 12), strides=(4, 2, 1), kernels=(3, 1, 1), sampling="shuffle", shortcut=True)
WITHOUT_LOSS = TransformConfig(
    widths=(8, 48), strides=(2, 2), kernels=(1, 1), depths=(1,), sampling="shuffle", shortcut=True
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [PAPER, SHUFFLED], ids=["deconv", "shuffle"])
@pytest.mark.parametrize("blocks", [(1, 1), (3, 2), (2, 5)])
def test_shapes_of_analysis_and_synthesis(kind, config, blocks):
    config = replace(config, kind=kind)
    height, width = (config.stride * n for n in blocks)
    x = torch.rand(2, 3, height, width)
    quality = torch.tensor([0.0, 63.0])
    y = Analysis(3, config, levels=4)(x, quality)
    assert y.shape == (2, 12, *blocks)
    assert Synthesis(3, config, levels=4)(y, quality).shape == x.shape


@pytest.mark.parametrize("config", [PAPER, replace(SHUFFLED, shortcut=False)], ids=["deconv", "shuffle"])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (9, 16)])
def test_odd_sizes_round_up(config, size):
    y = Analysis(3, config)(torch.rand(1, 3, *size))
    assert y.shape == (1, 12, *(-(-side // 8) for side in size))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    config = replace(SHUFFLED, kind=kind)
    analysis, synthesis = Analysis(3, config, levels=2), Synthesis(3, config, levels=2, conditions=(5, 6))
    for module in (analysis, synthesis):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    quality, x = torch.tensor([20.0]), torch.rand(1, 3, 32, 16)
    conditions = (torch.rand(1, 5, 4, 2), torch.rand(1, 6, 8, 4))
    synthesis(analysis(x, quality), quality, conditions).square().sum().backward()
    missing = [
        name
        for module in (analysis, synthesis)
        for name, p in module.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert missing == []


def test_a_shortcut_starts_as_an_exact_block_transform():
    x = torch.rand(1, 3, 12, 8)
    assert torch.allclose(Synthesis(3, WITHOUT_LOSS)(Analysis(3, WITHOUT_LOSS)(x)), x, atol=1e-5)


def test_a_fixed_shortcut_is_neither_trained_nor_saved():
    config = replace(WITHOUT_LOSS, fixed_shortcut=True)
    analysis, synthesis = Analysis(3, config), Synthesis(3, config)
    trainable = replace(WITHOUT_LOSS, fixed_shortcut=False)
    x = torch.rand(1, 3, 12, 8)
    assert torch.equal(analysis(x), Analysis(3, trainable)(x))
    assert torch.allclose(synthesis(analysis(x)), x, atol=1e-5)
    for module in (analysis, synthesis):
        names = [*module.state_dict(), *(name for name, _ in module.named_parameters())]
        assert not any("shortcut" in name for name in names)


def test_the_shortcut_keeps_full_precision_under_autocast():
    analysis, synthesis, x = Analysis(3, WITHOUT_LOSS), Synthesis(3, WITHOUT_LOSS), torch.rand(1, 3, 12, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(synthesis(analysis(x)), x, atol=1e-5)


def test_inconsistent_sizes_are_refused():
    with pytest.raises(ValueError, match="one entry a stage"):
        TransformConfig(widths=(8, 8), strides=(2, 2, 2), kernels=(3, 3), depths=(1,))
    with pytest.raises(ValueError, match="unknown kind"):
        replace(PAPER, kind="fourier")
