"""The Triton kernels of the selective scan, on chunks of the sequence: tiles [step, channel, state] in registers.

`chunk_ends` scans every chunk by itself, `carry_states` carries the states from chunk to chunk, and `chunk_outputs` or
`chunk_gradients` work each chunk out from the states at its two ends. A direction and its reverse have their chunks at
the same places in the map, so one program does both.

A map is addressed as (batch, direction, row, column, channel or state) with any strides, which come as a tuple.
Sums over programs are never left to atomics: each program writes its own part.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def _join(a, b, a_next, b_next):
    """Two steps h <- a h + b as one."""
    return a * a_next, b * a_next + b_next


@triton.jit
def _softplus(x):
    """log(1 + exp(x)) and its derivative."""
    z = tl.exp(-tl.abs(x))
    s = z / (z + 2)  # log(1 + z) = 2 atanh(z / (2 + z)), by the polynomials of scan_vector.h
    t = s * s
    if x.dtype == tl.float64:
        p = t * 0.16467639477183698488 + 0.069942446675656117715
        p = p * t + 0.10972567251734726947
        p = p * t + 0.11715950633369166484
        p = p * t + 0.13336805819573219254
        p = p * t + 0.15384451932232142841
        p = p * t + 0.18181823202917001944
        p = p * t + 0.22222222125470605859
        p = p * t + 0.28571428572510028972
        p = p * t + 0.39999999999993977627
        p = p * t + 0.66666666666666678319
    else:
        p = t * 0.280244585718 + 0.279991411495
        p = p * t + 0.400216990528
        p = p * t + 0.666664131329
    return s * (p * t + 2) + tl.maximum(x, 0), tl.where(x < 0, z, 1) / (1 + z)


@triton.jit
def _pointers(base, strides, batch, k, index, last, height, width, COLUMNS: tl.constexpr):
    """Pointers [position, channel or state] to positions that are counted row by row, or column by column."""
    if COLUMNS:
        row, column = index % height, index // height
    else:
        row, column = index // width, index % width
    base += batch.to(tl.int64) * strides[0] + k * strides[1]
    position = row.to(tl.int64) * strides[2] + column.to(tl.int64) * strides[3]
    return base + position[:, None] + last[None, :] * strides[4]


@triton.jit
def _load_steps(delta, strides, bias, batch, k, index, d, mask, shape, COLUMNS: tl.constexpr, SOFTPLUS: tl.constexpr,
                REAL: tl.constexpr):  # fmt: skip
    """The steps [position, channel], 0 where masked, and their derivatives by delta."""
    channels, height, width = shape
    pointers = _pointers(delta, strides, batch, k, index, d, height, width, COLUMNS)
    step = tl.load(pointers, mask=mask, other=0).to(REAL)
    if bias is not None:
        step += tl.load(bias + k * channels + d, mask=d < channels, other=0).to(REAL)[None, :]
    slope = tl.full(step.shape, 1, REAL)
    if SOFTPLUS:
        step, slope = _softplus(step)
    return tl.where(mask, step, 0), slope


@triton.jit
def _load_decay_rates(A, k, channels, d, states, n, mask, REAL: tl.constexpr):
    """[channel, state]"""
    return tl.load(A + (k * channels + d)[:, None] * states + n[None, :], mask=mask, other=0).to(REAL)


@triton.jit
def chunk_ends(
    u, delta, A, B, C, bias, dy, total, ends, dends,
    u_strides, delta_strides, B_strides, C_strides, dy_strides, B_group_stride, C_group_stride,
    shape, group, states, chunks, directions, first_direction,
    COLUMNS: tl.constexpr, SOFTPLUS: tl.constexpr, REAL: tl.constexpr,
    STEPS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Of each chunk: the sum of its steps, the state at its end if it starts from 0 and, where dy is given, the
    gradient of the state before its start as far as it comes from this chunk.

    Grid (chunks, batch * directions, blocks of channels); total (batch, directions, chunks, D), ends and dends
    (batch, directions, chunks, D, N).
    """
    channels, height, width = shape
    chunk, batch, j = tl.program_id(0), tl.program_id(1) // directions, tl.program_id(1) % directions
    k, g = first_direction + j, tl.program_id(2) // tl.cdiv(group, CHANNELS)
    in_group = tl.program_id(2) % tl.cdiv(group, CHANNELS) * CHANNELS + tl.arange(0, CHANNELS)
    d, n = g * group + in_group, tl.arange(0, STATES)
    index = chunk * STEPS + tl.arange(0, STEPS)
    mask_d, mask_n = (in_group < group)[None, :], (n < states)[None, :]
    inside = (index < height * width)[:, None]
    mask = inside & mask_d
    mask_dn = (in_group < group)[:, None] & mask_n

    step, _ = _load_steps(delta, delta_strides, bias, batch, k, index, d, mask, shape, COLUMNS, SOFTPLUS, REAL)
    x = tl.load(_pointers(u, u_strides, batch, 0, index, d, height, width, COLUMNS), mask=mask, other=0).to(REAL)
    b_pointers = _pointers(B + g * B_group_stride, B_strides, batch, k, index, n, height, width, COLUMNS)
    b = tl.load(b_pointers, mask=inside & mask_n, other=0).to(REAL)
    a = _load_decay_rates(A, k, channels, d, states, n, mask_dn, REAL)

    # The input of a step is weighed by exp(A * sum of the steps after it), its gradient by the sum up to it.
    ascending, descending = tl.cumsum(step, 0), tl.cumsum(step, 0, reverse=True)
    after = tl.where(j == 1, ascending, descending) - step
    end = tl.sum(tl.exp(after[:, :, None] * a[None, :, :]) * (step * x)[:, :, None] * b[:, None, :], 0)
    row = ((batch * directions + j) * chunks + chunk).to(tl.int64) * channels + d
    tl.store(total + row, tl.sum(step, 0), mask=in_group < group)
    tl.store(ends + row[:, None] * states + n[None, :], end, mask=mask_dn)
    if dy is not None:
        c_pointers = _pointers(C + g * C_group_stride, C_strides, batch, k, index, n, height, width, COLUMNS)
        c = tl.load(c_pointers, mask=inside & mask_n, other=0).to(REAL)
        dy_pointers = _pointers(dy, dy_strides, batch, 0, index, d, height, width, COLUMNS)
        out = tl.load(dy_pointers, mask=mask, other=0).to(REAL)
        until = tl.where(j == 1, descending, ascending)
        dend = tl.sum(tl.exp(until[:, :, None] * a[None, :, :]) * out[:, :, None] * c[:, None, :], 0)
        tl.store(dends + row[:, None] * states + n[None, :], dend, mask=mask_dn)


@triton.jit
def carry_states(
    A, total, ends, channels, states, chunks, directions, first_direction,
    GRADIENT: tl.constexpr, REAL: tl.constexpr,
    CHUNKS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Replace what each chunk adds to the state by the state that it meets, in the order of the direction; with
    GRADIENT in the opposite order. Grid (batch * directions, blocks of channels)."""
    j = tl.program_id(0) % directions
    d = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    n = tl.arange(0, STATES)
    mask_dn = (d < channels)[:, None] & (n < states)[None, :]
    a = _load_decay_rates(A, first_direction + j, channels, d, states, n, mask_dn, REAL)
    total += tl.program_id(0).to(tl.int64) * chunks * channels
    ends += tl.program_id(0).to(tl.int64) * chunks * channels * states
    sign = tl.where((j == 1) != GRADIENT, -1, 1)
    origin = tl.where(sign < 0, chunks - 1, 0)

    carry = tl.zeros((CHANNELS, STATES), REAL)
    for first in range(0, chunks, CHUNKS):
        i = first + tl.arange(0, CHUNKS)
        row = (origin + sign * i).to(tl.int64)[:, None] * channels + d[None, :]
        before = row - sign * channels  # of the chunk that was walked before
        known = (i < chunks)[:, None] & (d < channels)[None, :]
        mask = known & (i > first)[:, None]
        decay = tl.exp(tl.load(total + before, mask=mask, other=0)[:, :, None] * a[None, :, :])
        mask = mask[:, :, None] & (n < states)[None, None, :]
        h = tl.load(ends + before[:, :, None] * states + n[None, None, :], mask=mask, other=0)
        h = tl.where((i == first)[:, None, None], carry[None, :, :], h)
        _, h = tl.associative_scan((decay, h), 0, _join)

        last = tl.minimum(first + CHUNKS, chunks) - 1
        row_last = (origin + sign * last).to(tl.int64) * channels + d
        decay = tl.exp(tl.load(total + row_last, mask=d < channels, other=0)[:, None] * a)
        end = tl.load(ends + row_last[:, None] * states + n[None, :], mask=mask_dn, other=0)
        carry = decay * tl.sum(tl.where((i == last)[:, None, None], h, 0), 0) + end
        tl.debug_barrier()  # all has been read before anything is replaced
        mask = known[:, :, None] & (n < states)[None, None, :]
        tl.store(ends + row[:, :, None] * states + n[None, None, :], h, mask=mask)


@triton.jit
def chunk_outputs(
    u, delta, A, B, C, bias, skip, starts, y,
    u_strides, delta_strides, B_strides, C_strides, y_strides, B_group_stride, C_group_stride,
    shape, group, states, chunks, first_direction,
    DIRECTIONS: tl.constexpr, FIRST: tl.constexpr, COLUMNS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REAL: tl.constexpr, STEPS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """y of a direction and its reverse; FIRST writes it, with the skip, else it is added. starts (batch, directions,
    chunks, D, N) has the state that each chunk meets. Grid (chunks, batch, blocks of channels)."""
    channels, height, width = shape
    chunk, batch, g = tl.program_id(0), tl.program_id(1), tl.program_id(2) // tl.cdiv(group, CHANNELS)
    in_group = tl.program_id(2) % tl.cdiv(group, CHANNELS) * CHANNELS + tl.arange(0, CHANNELS)
    d, n = g * group + in_group, tl.arange(0, STATES)
    index = chunk * STEPS + tl.arange(0, STEPS)
    inside, mask_n = (index < height * width)[:, None], (n < states)[None, :]
    mask = inside & (in_group < group)[None, :]
    mask_dn = (in_group < group)[:, None] & mask_n

    x = tl.load(_pointers(u, u_strides, batch, 0, index, d, height, width, COLUMNS), mask=mask, other=0).to(REAL)
    y_pointers = _pointers(y, y_strides, batch, 0, index, d, height, width, COLUMNS)
    if not FIRST:
        out = tl.load(y_pointers, mask=mask, other=0).to(REAL)
    elif skip is not None:
        out = x * tl.load(skip + d, mask=in_group < group, other=0)[None, :]
    else:
        out = tl.zeros((STEPS, CHANNELS), REAL)
    for j in tl.static_range(DIRECTIONS):
        k = first_direction + j
        step, _ = _load_steps(delta, delta_strides, bias, batch, k, index, d, mask, shape, COLUMNS, SOFTPLUS, REAL)
        b_pointers = _pointers(B + g * B_group_stride, B_strides, batch, k, index, n, height, width, COLUMNS)
        c_pointers = _pointers(C + g * C_group_stride, C_strides, batch, k, index, n, height, width, COLUMNS)
        b = tl.load(b_pointers, mask=inside & mask_n, other=0).to(REAL)
        c = tl.load(c_pointers, mask=inside & mask_n, other=0).to(REAL)
        a = _load_decay_rates(A, k, channels, d, states, n, mask_dn, REAL)
        row = ((batch * DIRECTIONS + j) * chunks + chunk).to(tl.int64) * channels + d
        start = tl.load(starts + row[:, None] * states + n[None, :], mask=mask_dn, other=0)
        decay = tl.exp(step[:, :, None] * a[None, :, :])
        decay, h = tl.associative_scan((decay, (step * x)[:, :, None] * b[:, None, :]), 0, _join, reverse=j == 1)
        out += tl.sum((h + decay * start[None, :, :]) * c[:, None, :], 2)
    tl.store(y_pointers, out, mask=mask)


@triton.jit
def chunk_gradients(
    u, delta, A, B, C, bias, skip, dy, starts, dstarts, du, ddelta, dA, dB, dC, dbias, dskip,
    u_strides, delta_strides, B_strides, C_strides, dy_strides, du_strides, ddelta_strides,
    B_group_stride, C_group_stride, shape, group, states, chunks, directions, first_direction, per_program,
    REVERSE: tl.constexpr, FIRST: tl.constexpr, COLUMNS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REAL: tl.constexpr, STEPS: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """The gradients of one direction, from the state that each chunk meets and the gradient that comes back to its
    end: dh_t = C_t dy_t + a_{t+1} dh_{t+1}.

    Grid (programs, batch, groups). A program takes `per_program` chunks and all channels of the group, so that dB and
    dC (batch, directions, groups, H * W in the direction's order, N) are whole; its own part are dA (programs, batch,
    directions, D, N), dbias and dskip (programs, batch, directions, D).
    """
    channels, height, width = shape
    batch, g, length = tl.program_id(1), tl.program_id(2), height * width
    j: tl.constexpr = 1 if REVERSE else 0
    k, n = first_direction + j, tl.arange(0, STATES)
    part = (tl.program_id(0) * tl.num_programs(1) + batch) * directions + j
    first_chunk = tl.program_id(0) * per_program
    for chunk in range(first_chunk, tl.minimum(first_chunk + per_program, chunks)):
        index = chunk * STEPS + tl.arange(0, STEPS)
        inside, mask_n = (index < length)[:, None], (n < states)[None, :]
        b_pointers = _pointers(B + g * B_group_stride, B_strides, batch, k, index, n, height, width, COLUMNS)
        c_pointers = _pointers(C + g * C_group_stride, C_strides, batch, k, index, n, height, width, COLUMNS)
        b = tl.load(b_pointers, mask=inside & mask_n, other=0).to(REAL)
        c = tl.load(c_pointers, mask=inside & mask_n, other=0).to(REAL)
        sum_B, sum_C = tl.zeros((STEPS, STATES), REAL), tl.zeros((STEPS, STATES), REAL)
        for first in range(0, group, CHANNELS):
            in_group = first + tl.arange(0, CHANNELS)
            d = g * group + in_group
            mask_d = in_group < group
            mask, mask_dn = inside & mask_d[None, :], mask_d[:, None] & mask_n
            a = _load_decay_rates(A, k, channels, d, states, n, mask_dn, REAL)
            x = tl.load(_pointers(u, u_strides, batch, 0, index, d, height, width, COLUMNS), mask=mask, other=0)
            out = tl.load(_pointers(dy, dy_strides, batch, 0, index, d, height, width, COLUMNS), mask=mask, other=0)
            x, out = x.to(REAL), out.to(REAL)
            step, slope = _load_steps(
                delta, delta_strides, bias, batch, k, index, d, mask, shape, COLUMNS, SOFTPLUS, REAL
            )
            # The step that follows in the direction's order; the chunk's last one has none: its decay is in dstarts.
            following = index - 1 if REVERSE else index + 1
            within = (following // STEPS == index // STEPS) & (following >= 0) & (following < length)
            next_step, _ = _load_steps(
                delta, delta_strides, bias, batch, k, following, d, within[:, None] & mask, shape, COLUMNS, SOFTPLUS,
                REAL,
            )  # fmt: skip
            row = ((batch * directions + j) * chunks + chunk).to(tl.int64) * channels + d
            start = tl.load(starts + row[:, None] * states + n[None, :], mask=mask_dn, other=0)
            dstart = tl.load(dstarts + row[:, None] * states + n[None, :], mask=mask_dn, other=0)

            entering = (step * x)[:, :, None] * b[:, None, :]
            decay = tl.exp(step[:, :, None] * a[None, :, :])
            decay, h = tl.associative_scan((decay, entering), 0, _join, reverse=REVERSE)
            h += decay * start[None, :, :]
            decay = tl.exp(next_step[:, :, None] * a[None, :, :])
            decay, dh = tl.associative_scan((decay, out[:, :, None] * c[:, None, :]), 0, _join, reverse=not REVERSE)
            dh += decay * dstart[None, :, :]

            sum_B += tl.sum(dh * (step * x)[:, :, None], 1)
            sum_C += tl.sum(h * out[:, :, None], 1)
            dinput = tl.sum(dh * b[:, None, :], 2)
            dexponent = dh * (h - entering)
            dx = tl.sum(dexponent * a[None, :, :], 2) + dinput * x
            dx = tl.where(mask, dx * slope, 0)
            ddelta_pointers = _pointers(ddelta, ddelta_strides, batch, k, index, d, height, width, COLUMNS)
            tl.store(ddelta_pointers, dx, mask=mask)
            du_pointers = _pointers(du, du_strides, batch, 0, index, d, height, width, COLUMNS)
            dinput *= step
            if not FIRST:
                dinput += tl.load(du_pointers, mask=mask, other=0)
            elif skip is not None:
                dinput += out * tl.load(skip + d, mask=mask_d, other=0)[None, :]
            tl.store(du_pointers, dinput, mask=mask)

            own = part.to(tl.int64) * channels + d
            own_A = own[:, None] * states + n[None, :]
            added = mask_d & (d * 0 + chunk > first_chunk)
            sum_A = tl.sum(dexponent * step[:, :, None], 0)
            tl.store(dA + own_A, sum_A + tl.load(dA + own_A, mask=added[:, None] & mask_n, other=0), mask=mask_dn)
            tl.store(dbias + own, tl.sum(dx, 0) + tl.load(dbias + own, mask=added, other=0), mask=mask_d)
            tl.store(dskip + own, tl.sum(out * x, 0) + tl.load(dskip + own, mask=added, other=0), mask=mask_d)
        at = ((batch * directions + j) * tl.num_programs(2) + g).to(tl.int64) * length + index
        at = at[:, None] * states + n[None, :]
        tl.store(dB + at, sum_B, mask=inside & mask_n)
        tl.store(dC + at, sum_C, mask=inside & mask_n)
