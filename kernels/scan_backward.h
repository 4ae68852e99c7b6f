/* The backward scan of one unit of work: all directions of a slice of neighbouring channels of one sample.
 *
 * The states are not kept from the forward scan. A first sweep along a direction keeps those at the start of every
 * chunk; a second one goes backward over the chunks, computes the states within a chunk again, and then walks it from
 * its end with the gradient of the states: dh_t = C_t dy_t + a_{t+1} dh_{t+1}, a_t = exp(step_t A).
 *
 * The gradients of B and C are sums over channels. They are added up lane by lane over the blocks of the slice, then
 * over the lanes, and are the slice's own part: the caller adds up the slices. So no sum depends on the threads.
 */

/* A row of BLOCK lanes for each step of the chunk. */
typedef struct {
    REAL step[BACKWARD_CHUNK][BLOCK];
    REAL slope[BACKWARD_CHUNK][BLOCK]; /* d step / d delta */
    REAL u[BACKWARD_CHUNK][BLOCK];
    REAL input[BACKWARD_CHUNK][BLOCK]; /* step * u */
    REAL dy[BACKWARD_CHUNK][BLOCK];
    REAL dinput[BACKWARD_CHUNK][BLOCK];
    REAL dexponent[BACKWARD_CHUNK][BLOCK]; /* the gradient of the step as far as it acts through exp(step * A) */
    REAL decay[BACKWARD_CHUNK][GROUP][LANES];
    REAL h[BACKWARD_CHUNK + 1][GROUP][LANES]; /* before the first step, and after each step */
    int64_t position[BACKWARD_CHUNK];
} FN(tape);

/* Rows of BLOCK lanes; `states` of them for each block of the slice, where not said otherwise. */
typedef struct {
    REAL *A, *dA, *h, *dh;
    REAL *bias, *dbias, *skip, *dskip; /* one row a block */
    REAL *start; /* the states at the start of each chunk: states rows for each chunk and block */
    REAL *dB, *dC; /* LANES lanes for each step of a chunk and state */
} FN(slice);

static int64_t FN(tape_rows)(const struct scan *s) {
    int64_t blocks = largest_slice(s, BLOCK), chunks = chunk_count(s, BACKWARD_CHUNK);
    return blocks * (4 * s->states + 4) + chunks * blocks * s->states + 2 * BACKWARD_CHUNK * s->states;
}

static size_t FN(backward_scratch)(const struct scan *s) {
    return sizeof(FN(tape)) + (size_t)FN(tape_rows)(s) * BLOCK * sizeof(REAL);
}

static FN(slice) FN(lay_out)(const struct scan *s, REAL *memory, int64_t blocks) {
    int64_t rows = blocks * s->states * BLOCK;
    FN(slice) x;
    x.A = memory, x.dA = x.A + rows, x.h = x.dA + rows, x.dh = x.h + rows;
    x.bias = x.dh + rows, x.dbias = x.bias + blocks * BLOCK;
    x.skip = x.dbias + blocks * BLOCK, x.dskip = x.skip + blocks * BLOCK;
    x.dB = x.dskip + blocks * BLOCK, x.dC = x.dB + BACKWARD_CHUNK * s->states * BLOCK;
    x.start = x.dC + BACKWARD_CHUNK * s->states * BLOCK;
    return x;
}

/* delta and u of a chunk as steps and inputs; for the second sweep also what its gradients need. */
INLINE void FN(read_tape)(const struct scan *s, FN(tape) *c, const REAL *bias, int length, const REAL *u,
                          const REAL *delta, const REAL *dy, int64_t count) {
    for (int t = 0; t < length; t++) {
        int64_t p = c->position[t];
        for (int i = 0; i < BLOCK && i < count; i += LANES) {
            VEC step = FN(load_part)(delta + p * s->delta_stride[2] + i, count - i) + FN(load)(bias + i);
            VEC x = FN(load_part)(u + p * s->u_stride[1] + i, count - i);
            if (dy) {
                VEC slope = BROADCAST(1);
                if (s->softplus) step = FN(softplus_and_slope)(step, &slope);
                FN(store)(c->slope[t] + i, slope);
                FN(store)(c->u[t] + i, x);
                FN(store)(c->dy[t] + i, FN(load_part)(dy + p * s->dy_stride[1] + i, count - i));
                FN(store)(c->dinput[t] + i, BROADCAST(0));
                FN(store)(c->dexponent[t] + i, BROADCAST(0));
            } else if (s->softplus) {
                step = FN(softplus)(step);
            }
            FN(store)(c->step[t] + i, step);
            FN(store)(c->input[t] + i, step * x);
        }
    }
}

/* The recurrence over a chunk, from the states in h, for `states` states (a constant where this is inlined) and one
 * vector of channels. With `keep` the decays and states go on the tape and h stays, else h is brought forward. */
INLINE void FN(advance)(const int states, const int keep, const struct scan *s, FN(tape) *c, int length, const REAL *A,
                        REAL *h, const REAL *B, int i) {
    VEC state[GROUP], a[GROUP];
    UNROLL for (int n = 0; n < states; n++) {
        state[n] = FN(load)(h + n * BLOCK + i);
        a[n] = FN(load)(A + n * BLOCK + i);
        if (keep) FN(store)(c->h[0][n], state[n]);
    }
    for (int t = 0; t < length; t++) {
        const REAL *b = B + c->position[t] * s->B_stride[3];
        VEC step = FN(load)(c->step[t] + i), input = FN(load)(c->input[t] + i);
        UNROLL for (int n = 0; n < states; n++) {
            VEC decay = FN(exp_scaled)(step * a[n]);
            state[n] = decay * state[n] + input * b[n];
            if (keep) {
                FN(store)(c->decay[t][n], decay);
                FN(store)(c->h[t + 1][n], state[n]);
            }
        }
    }
    if (!keep)
        UNROLL for (int n = 0; n < states; n++) FN(store)(h + n * BLOCK + i, state[n]);
}

/* The gradients over a chunk that `advance` has put on the tape, from its end to its start. */
INLINE void FN(retreat)(const int states, const struct scan *s, FN(tape) *c, int length, const REAL *A, REAL *dA,
                        REAL *dh, const REAL *B, const REAL *C, REAL *dB, REAL *dC, int i) {
    VEC carry[GROUP], dexponents[GROUP], a[GROUP];
    UNROLL for (int n = 0; n < states; n++) {
        carry[n] = FN(load)(dh + n * BLOCK + i);
        dexponents[n] = FN(load)(dA + n * BLOCK + i);
        a[n] = FN(load)(A + n * BLOCK + i);
    }
    for (int t = length - 1; t >= 0; t--) {
        const REAL *b = B + c->position[t] * s->B_stride[3], *o = C + c->position[t] * s->C_stride[3];
        VEC step = FN(load)(c->step[t] + i), input = FN(load)(c->input[t] + i), dy = FN(load)(c->dy[t] + i);
        VEC dinput = FN(load)(c->dinput[t] + i), dexponent = FN(load)(c->dexponent[t] + i);
        REAL *sumB = dB + t * s->states * LANES, *sumC = dC + t * s->states * LANES;
        UNROLL for (int n = 0; n < states; n++) {
            VEC dstate = carry[n] + dy * o[n];
            FN(store)(sumC + n * LANES, FN(load)(sumC + n * LANES) + dy * FN(load)(c->h[t + 1][n]));
            FN(store)(sumB + n * LANES, FN(load)(sumB + n * LANES) + dstate * input);
            dinput += dstate * b[n];
            carry[n] = dstate * FN(load)(c->decay[t][n]);
            VEC e = carry[n] * FN(load)(c->h[t][n]);
            dexponents[n] += e * step;
            dexponent += e * a[n];
        }
        FN(store)(c->dinput[t] + i, dinput);
        FN(store)(c->dexponent[t] + i, dexponent);
    }
    UNROLL for (int n = 0; n < states; n++) {
        FN(store)(dh + n * BLOCK + i, carry[n]);
        FN(store)(dA + n * BLOCK + i, dexponents[n]);
    }
}

static void FN(advance_block)(const struct scan *s, FN(tape) *c, int length, const REAL *A, REAL *h, const REAL *B,
                              int64_t count) {
    for (int i = 0; i < BLOCK && i < count; i += LANES)
        for (int64_t n = 0; n < s->states; n += GROUP) {
#define ADVANCE(states) FN(advance)(states, 0, s, c, length, A + n * BLOCK, h + n * BLOCK, B + n, i)
            SWITCH_STATES(s->states - n, ADVANCE)
#undef ADVANCE
        }
}

static void FN(retreat_block)(const struct scan *s, FN(tape) *c, int length, const FN(slice) *x, int64_t row, REAL *start,
                              const REAL *B, const REAL *C, int64_t count) {
    for (int i = 0; i < BLOCK && i < count; i += LANES)
        for (int64_t n = 0; n < s->states; n += GROUP) {
            int64_t at = row + n * BLOCK;
            REAL *dB = x->dB + n * LANES, *dC = x->dC + n * LANES;
#define RETREAT(states)                                                                         \
    FN(advance)(states, 1, s, c, length, x->A + at, start + n * BLOCK, B + n, i);                \
    FN(retreat)(states, s, c, length, x->A + at, x->dA + at, x->dh + at, B + n, C + n, dB, dC, i)
            SWITCH_STATES(s->states - n, RETREAT)
#undef RETREAT
        }
}

/* The chunk's part of the gradients of u, delta, delta_bias and D. */
INLINE void FN(write_tape)(const struct scan *s, const FN(tape) *c, int length, REAL *du, REAL *ddelta, const REAL *skip,
                           REAL *dskip, REAL *dbias, int64_t count, int first) {
    for (int i = 0; i < BLOCK && i < count; i += LANES) {
        VEC bias_sum = FN(load)(dbias + i), skip_sum = FN(load)(dskip + i);
        for (int t = length - 1; t >= 0; t--) {
            REAL *du_t = du + c->position[t] * s->du_stride[1] + i;
            VEC x = FN(load)(c->u[t] + i), dinput = FN(load)(c->dinput[t] + i), dy = FN(load)(c->dy[t] + i);
            VEC dstep = dinput * x + FN(load)(c->dexponent[t] + i) * (REAL)(1 / EXP_SCALE);
            VEC gradient = dstep * FN(load)(c->slope[t] + i);
            bias_sum += gradient;
            FN(store_part)(ddelta + c->position[t] * s->ddelta_stride[2] + i, gradient, count - i);
            VEC before = first ? dy * FN(load)(skip + i) : FN(load_part)(du_t, count - i);
            if (first) skip_sum += dy * x;
            FN(store_part)(du_t, dinput * FN(load)(c->step[t] + i) + before, count - i);
        }
        FN(store)(dbias + i, bias_sum);
        FN(store)(dskip + i, skip_sum);
    }
}

/* Add up the lanes of the chunk's sums, and write them where the slice's part of dB or dC lies. */
static void FN(write_sums)(const struct scan *s, const FN(tape) *c, int length, const REAL *sums, REAL *out) {
    int64_t count = length * s->states, n = 0, t = 0;
    for (int64_t i = 0; i < count; i += LANES) {
        REAL totals[LANES];
        FN(store)(totals, FN(sum_lanes)(sums + i * LANES));
        for (int64_t j = 0; j < LANES && i + j < count; j++) {
            out[c->position[t] * s->states + n] = totals[j];
            if (++n == s->states) n = 0, t++;
        }
    }
}

/* The sample's part of the gradients of A, delta_bias and D. */
static void FN(write_parameters)(const struct scan *s, const FN(slice) *x, int64_t k, struct unit at) {
    for (int64_t i = 0; i < at.count; i++) {
        int64_t row = (at.batch * s->directions + k) * s->channels + at.channel + i;
        for (int64_t n = 0; n < s->states; n++)
            ((REAL *)s->dA)[row * s->states + n] = x->dA[(i / BLOCK * s->states + n) * BLOCK + i % BLOCK];
        ((REAL *)s->dbias)[row] = x->dbias[i];
        ((REAL *)s->dD)[row] = x->dskip[i];
    }
}

/* The states at the start of every chunk of one direction. */
static void FN(keep_starts)(const struct scan *s, FN(tape) *c, const FN(maps) *m, const FN(slice) *x, int64_t k,
                            struct unit at) {
    int64_t blocks = (at.count + BLOCK - 1) / BLOCK, rows = s->states * BLOCK;
    int64_t chunks = chunk_count(s, BACKWARD_CHUNK);
    for (int64_t j = 0; j < blocks; j++) {
        int64_t row = j * BLOCK, count = at.count - row;
        REAL *h = x->h + j * rows;
        memset(h, 0, rows * sizeof(REAL));
        for (int64_t i = 0; i < chunks; i++) {
            memcpy(x->start + (i * blocks + j) * rows, h, rows * sizeof(REAL));
            if (i == chunks - 1) break;
            int length = set_positions(s, k, i, BACKWARD_CHUNK, c->position);
            FN(read_tape)(s, c, x->bias + row, length, m->u + row, m->delta + row, NULL, count);
            FN(advance_block)(s, c, length, x->A + j * rows, h, m->B, count);
        }
    }
}

/* The gradients of one direction, chunk after chunk from its end. */
static void FN(sweep_back)(const struct scan *s, FN(tape) *c, const FN(maps) *m, const FN(slice) *x, int64_t k,
                           struct unit at) {
    int64_t blocks = (at.count + BLOCK - 1) / BLOCK, rows = s->states * BLOCK;
    for (int64_t i = chunk_count(s, BACKWARD_CHUNK) - 1; i >= 0; i--) {
        int length = set_positions(s, k, i, BACKWARD_CHUNK, c->position);
        size_t sums = (length * s->states + LANES - 1) / LANES * LANES * LANES * sizeof(REAL);
        memset(x->dB, 0, sums);
        memset(x->dC, 0, sums);
        for (int64_t j = 0; j < blocks; j++) {
            int64_t row = j * BLOCK, count = at.count - row;
            FN(read_tape)(s, c, x->bias + row, length, m->u + row, m->delta + row, m->dy + row, count);
            FN(retreat_block)(s, c, length, x, j * rows, x->start + (i * blocks + j) * rows, m->B, m->C, count);
            FN(write_tape)(s, c, length, m->du + row, m->ddelta + row, x->skip + row, x->dskip + row, x->dbias + row,
                           count, k == 0);
        }
        FN(write_sums)(s, c, length, x->dB, m->dB);
        FN(write_sums)(s, c, length, x->dC, m->dC);
    }
}

static void FN(backward_unit)(const struct scan *s, int64_t unit, void *scratch) {
    struct unit at = locate_slice(s, unit, BLOCK);
    int64_t blocks = (at.count + BLOCK - 1) / BLOCK, rows = blocks * s->states * BLOCK;
    FN(tape) *c = scratch;
    FN(slice) x = FN(lay_out)(s, (REAL *)(c + 1), blocks);
    memset(x.dskip, 0, blocks * BLOCK * sizeof(REAL));
    for (int64_t k = 0; k < s->directions; k++) {
        FN(maps) m = FN(locate)(s, at, k);
        for (int64_t j = 0; j < blocks; j++)
            FN(load_parameters)(s, x.A + j * s->states * BLOCK, x.bias + j * BLOCK, x.skip + j * BLOCK, k,
                                at.channel + j * BLOCK, at.count - j * BLOCK);
        FN(keep_starts)(s, c, &m, &x, k, at);
        memset(x.dA, 0, rows * sizeof(REAL));
        memset(x.dh, 0, rows * sizeof(REAL));
        memset(x.dbias, 0, blocks * BLOCK * sizeof(REAL));
        FN(sweep_back)(s, c, &m, &x, k, at);
        FN(write_parameters)(s, &x, k, at);
    }
}
