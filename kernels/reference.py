"""The selective scan in plain PyTorch: any device, any floating dtype. The other back ends are tested against it.

    h_t = exp(delta_t * A) * h_{t-1} + delta_t * B_t * u_t
    y_t = <C_t, h_t> + D * u_t

(Gu and Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023, equation 2, with the input
matrix discretised as delta * B, as the authors' own code does.)
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad


def unavailable() -> str | None:
    return None


def supports(device: str, dtype: torch.dtype) -> bool:
    return dtype.is_floating_point


def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    sequential: bool = False,
) -> Tensor:
    """The general scan (shapes in dispatch.py): each direction as a sequence of its own, then their sum.

    `sequential` takes the recurrence as it is written, which autograd can differentiate and which is slow.
    """
    scan = scan_sequential if sequential else scan_chunked
    dtype = torch.promote_types(u.dtype, torch.float32)
    x = u.to(dtype)
    y = torch.zeros_like(x)
    for k in range(delta.shape[1]):
        step = step_size(delta[:, k], None if delta_bias is None else delta_bias[k], delta_softplus, dtype)
        us, steps, Bs, Cs = (unfold(z.to(dtype), k) for z in (x, step, B[:, k], C[:, k]))
        y += fold(scan(us, steps, Bs, Cs, A[k].to(dtype)), k, u.shape[2:])
        if D is not None:
            y += D[k, :, None, None] * x
    return torch.empty_like(u).copy_(y)


def backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor | None, ...]:
    """The gradient of every tensor argument, None for one that is None.

    The gradient of the states is a scan too, from the end to the start: dh_t = C_t dy_t + a_{t+1} dh_{t+1}.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    groups = B.shape[2]
    x, dout = u.to(dtype), dy.to(dtype)
    du = torch.zeros_like(x)
    gradients = [None if z is None else torch.empty_like(z) for z in (delta, A, B, C, D, delta_bias)]
    ddelta, dA, dB, dC, dD, dbias = gradients
    assert ddelta is not None
    assert dA is not None
    assert dB is not None
    assert dC is not None
    for k in range(delta.shape[1]):
        step = step_size(delta[:, k], None if delta_bias is None else delta_bias[k], delta_softplus, dtype)
        us, steps, Bs, Cs, dys = (unfold(z.to(dtype), k) for z in (x, step, B[:, k], C[:, k], dout))
        decay, h = states(us, steps, Bs, A[k].to(dtype))
        Bs, Cs = (per_channel(z, u.shape[1]) for z in (Bs, Cs))
        dh = Cs * dys[:, :, None]
        carried = torch.cat([decay[..., 1:], torch.ones_like(decay[..., :1])], dim=-1)
        dh = recurrence(carried.flip(-1), dh.flip(-1)).flip(-1)
        before = torch.cat([torch.zeros_like(h[..., :1]), h[..., :-1]], dim=-1)
        dexponent = dh * before * decay  # of the exponent step * A
        dstep = (dexponent * A[k].to(dtype)[:, :, None]).sum(2) + (dh * Bs).sum(2) * us
        dstep = fold(dstep, k, u.shape[2:])
        if delta_softplus:
            dstep = dstep * -torch.expm1(-step)  # softplus'(x) = 1 - exp(-softplus(x))
        ddelta[:, k] = dstep
        du += fold((dh * Bs).sum(2) * steps, k, u.shape[2:])
        dA[k] = (dexponent * steps[:, :, None]).sum((0, 3))
        for gradient, z in ((dB, dh * (steps * us)[:, :, None]), (dC, h * dys[:, :, None])):
            gradient[:, k] = fold(z.unflatten(1, (groups, -1)).sum(2), k, u.shape[2:])
        if D is not None and dD is not None:
            du += D[k, :, None, None] * dout
            dD[k] = (dout * x).sum((0, 2, 3))
        if dbias is not None:
            dbias[k] = dstep.sum((0, 2, 3))
    return torch.empty_like(u).copy_(du), ddelta, dA, dB, dC, dD, dbias


def step_size(delta: Tensor, bias: Tensor | None, delta_softplus: bool, dtype: torch.dtype) -> Tensor:
    """delta (batch, D, H, W) of one direction, with its bias (D,) and softplus."""
    delta = delta.to(dtype)
    if bias is not None:
        delta = delta + bias.to(dtype)[:, None, None]
    return torch.logaddexp(delta, delta.new_zeros(())) if delta_softplus else delta


def unfold(x: Tensor, direction: int) -> Tensor:
    """(..., H, W) -> (..., L) in the order in which a direction visits the map.

    0: row by row, 1: its reverse, 2: column by column, 3: its reverse (s1 to s4 of MambaVC, equations 15 to 18).
    """
    if direction >= 2:
        x = x.transpose(-1, -2)
    x = x.flatten(-2)
    return x.flip(-1) if direction % 2 else x


def fold(x: Tensor, direction: int, size: torch.Size) -> Tensor:
    """The inverse of `unfold` (equations 19 to 22)."""
    height, width = size
    if direction % 2:
        x = x.flip(-1)
    if direction < 2:
        return x.unflatten(-1, (height, width))
    return x.unflatten(-1, (width, height)).transpose(-1, -2)


def scan_sequential(u: Tensor, delta: Tensor, B: Tensor, C: Tensor, A: Tensor) -> Tensor:
    """The recurrence as it is written, one step after the other: what every other form must equal.

    u, delta (batch, D, L); A (D, N); B, C (batch, G, N, L). delta is the final step size. Returns y (batch, D, L)
    without the skip D * u.
    """
    channels = u.shape[1]
    B, C = per_channel(B, channels), per_channel(C, channels)
    h = torch.zeros_like(B[..., 0])
    y = []
    for t in range(u.shape[2]):
        step = delta[:, :, t, None]
        h = torch.exp(step * A) * h + step * u[:, :, t, None] * B[..., t]
        y.append((h * C[..., t]).sum(-1))
    return torch.stack(y, dim=-1)


def scan_chunked(u: Tensor, delta: Tensor, B: Tensor, C: Tensor, A: Tensor) -> Tensor:
    """The same as `scan_sequential` in about 2 * sqrt(L) steps, with every state in memory."""
    _, h = states(u, delta, B, A)
    return (h * per_channel(C, u.shape[1])).sum(2)


def states(u: Tensor, delta: Tensor, B: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """The decays exp(delta * A) and the states h of a sequence, both (batch, D, N, L)."""
    decay = torch.exp(delta[:, :, None] * A[:, :, None])
    return decay, recurrence(decay, (delta * u)[:, :, None] * per_channel(B, u.shape[1]))


def per_channel(x: Tensor, channels: int) -> Tensor:
    """(batch, G, N, L) -> (batch, D, N, L): group g serves channels g * D/G to (g + 1) * D/G."""
    return x.repeat_interleave(channels // x.shape[1], dim=1)


def recurrence(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t along the last dimension, with h_{-1} = 0.

    All chunks of sqrt(L) steps at once, then the states carried from chunk to chunk.
    """
    length = a.shape[-1]
    chunk = math.isqrt(max(length - 1, 0)) + 1
    chunks = max(-(-length // chunk), 1)
    a, b = (pad(x, (0, chunks * chunk - length)).unflatten(-1, (chunks, chunk)) for x in (a, b))
    h, total = torch.empty_like(b), torch.empty_like(a)
    h[..., 0], total[..., 0] = b[..., 0], a[..., 0]
    for t in range(1, chunk):
        h[..., t] = a[..., t] * h[..., t - 1] + b[..., t]
        total[..., t] = a[..., t] * total[..., t - 1]
    for j in range(1, chunks):
        h[..., j, :] += total[..., j, :] * h[..., j - 1, -1:]
    return h.flatten(-2)[..., :length]
