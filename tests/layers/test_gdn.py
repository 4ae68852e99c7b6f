"""GDN follows its equation."""

import torch

from vcodec.layers.gdn import GDN


def test_every_value_is_divided_by_the_pooled_energy_of_its_neighbours():
    gdn, x = GDN(3), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        for parameter in gdn.parameters():
            parameter.copy_(torch.rand(parameter.shape) + 0.1)
    beta, gamma = gdn.beta_root.detach() ** 2 + gdn.beta_min, gdn.gamma_root.detach() ** 2
    y = gdn(x)
    for i in range(3):
        energy = beta[i] + sum(gamma[i, j] * x[:, j] ** 2 for j in range(3))
        assert torch.allclose(y[:, i], x[:, i] / energy.sqrt(), atol=1e-6)


def test_the_inverse_multiplies():
    gdn, inverse, x = GDN(3), GDN(3, inverse=True), torch.randn(1, 3, 4, 5)
    inverse.load_state_dict(gdn.state_dict())
    assert torch.allclose(gdn(x) * inverse(x), x * x, atol=1e-5)
