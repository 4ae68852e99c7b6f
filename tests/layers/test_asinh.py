import torch

from vcodec.layers.asinh import asinh


def test_it_is_torch_s_with_and_without_gradient():
    x = torch.cat([torch.linspace(-300, 300, 1001), torch.tensor([0.0, -0.0, 1e-8, 1e6, -1e6])])
    torch.testing.assert_close(asinh(x), torch.asinh(x), rtol=1e-6, atol=3e-7)
    torch.testing.assert_close(asinh(x.double()), torch.asinh(x.double()), rtol=1e-14, atol=1e-15)
    x.requires_grad_()
    assert (torch.autograd.grad(asinh(x).sum(), x)[0] > 0).all()
