"""The factorised prior: a density with integer tables that agree with it."""

import numpy as np
import torch

from vcodec.entropy.factorized import REACH, FactorizedPrior


def make_prior(channels: int = 3, banks: int = 2) -> FactorizedPrior:
    torch.manual_seed(0)
    prior = FactorizedPrior(channels, banks)
    prior.update()
    return prior


def test_without_update_there_are_no_tables():
    prior = FactorizedPrior(3)
    assert not prior.has_tables
    prior.update()
    assert prior.has_tables


def test_tables_rise_and_end_at_the_whole():
    tables = make_prior().frequency_tables()
    rows = tables.cdf.reshape(len(tables.minimum), -1).astype(np.int64)
    assert len(rows) == 3 * 2
    assert (rows[:, 0] == 0).all()
    assert (rows[:, -1] == 65536).all()
    assert (np.diff(rows) > 0).all()


def test_the_estimate_agrees_with_the_tables():
    prior = make_prior()
    rows = prior.tables.double().reshape(2, 3, -1)
    for bank in range(2):
        z = torch.arange(-20, 21).float().repeat(3, 1)[None, :, None]
        bits = prior.bits(z, torch.tensor([bank]))[0, :, 0]
        table_bits = -torch.log2(rows[bank].diff(dim=-1)[:, REACH - 20 : REACH + 21] / 65536)
        assert torch.allclose(bits.double(), table_bits, atol=0.1)


def test_each_sample_takes_its_own_bank():
    prior = make_prior()
    z = torch.randn(2, 3, 2, 2)
    both = prior.bits(z, torch.tensor([1, 0]))
    assert torch.equal(both[0], prior.bits(z[:1], torch.tensor([1]))[0])
    assert torch.equal(both[1], prior.bits(z[1:], torch.tensor([0]))[0])
    assert not torch.equal(both[0], prior.bits(z[:1], torch.tensor([0]))[0])


def test_the_rate_has_a_gradient():
    prior = make_prior()
    z = torch.randn(2, 3, 2, 2, requires_grad=True)
    prior.bits(z, torch.tensor([1, 0])).sum().backward()
    assert z.grad is not None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prior.parameters())
