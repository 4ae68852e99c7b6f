/* The forward scan of one unit of work: all directions of BLOCK neighbouring channels of one sample.
 *
 * The channels lie side by side in memory, so a vector holds LANES of them and each lane runs its own recurrence.
 * The sequence is cut into chunks; a chunk goes through three phases, of which only the first and the last touch
 * the map: (1) read delta and u, make the steps; (2) run the recurrence, a few states at a time, all in registers,
 * adding to y; (3) write y.
 */
#define BLOCK ((int)(64 / sizeof(REAL)))

/* What phase 1 leaves behind, a row of BLOCK lanes for each step of the chunk. */
typedef struct {
    REAL step[CHUNK][BLOCK]; /* softplus(delta + delta_bias) */
    REAL input[CHUNK][BLOCK]; /* step * u */
    REAL y[CHUNK][BLOCK];
    REAL bias[BLOCK];
    REAL skip[BLOCK];
    int64_t position[CHUNK];
} FN(chunk);

/* Where a unit's part of each map begins, for one direction. */
typedef struct {
    const REAL *u, *delta, *B, *C, *dy;
    REAL *y, *du, *ddelta, *dB, *dC;
} FN(maps);

static FN(maps) FN(locate)(const struct scan *s, struct unit at, int64_t k) {
    int64_t part = (at.slice * s->batch + at.batch) * s->directions + k; /* of dB and dC */
    part = (part * s->groups + at.group) * s->height * s->width * s->states;
    FN(maps) m = {
        .u = (const REAL *)s->u + at.batch * s->u_stride[0] + at.channel,
        .delta = (const REAL *)s->delta + at.batch * s->delta_stride[0] + k * s->delta_stride[1] + at.channel,
        .B = (const REAL *)s->B + at.batch * s->B_stride[0] + k * s->B_stride[1] + at.group * s->B_stride[2],
        .C = (const REAL *)s->C + at.batch * s->C_stride[0] + k * s->C_stride[1] + at.group * s->C_stride[2],
        .dy = (const REAL *)s->dy + at.batch * s->dy_stride[0] + at.channel,
        .y = (REAL *)s->y + at.batch * s->y_stride[0] + at.channel,
        .du = (REAL *)s->du + at.batch * s->du_stride[0] + at.channel,
        .ddelta = (REAL *)s->ddelta + at.batch * s->ddelta_stride[0] + k * s->ddelta_stride[1] + at.channel,
        .dB = (REAL *)s->dB + part,
        .dC = (REAL *)s->dC + part,
    };
    return m;
}

/* The parameters of up to BLOCK channels in one direction: `states` rows of A times EXP_SCALE, the bias of delta, and
 * D summed over the directions; one lane a channel. */
INLINE void FN(load_parameters)(const struct scan *s, REAL *A, REAL *bias, REAL *skip, int64_t k, int64_t channel,
                                int64_t count) {
    for (int64_t i = 0; i < BLOCK; i++) {
        int64_t row = k * s->channels + channel + i;
        for (int64_t n = 0; n < s->states; n++)
            A[n * BLOCK + i] = i < count ? ((const REAL *)s->A)[row * s->states + n] * EXP_SCALE : 0;
        bias[i] = s->delta_bias && i < count ? ((const REAL *)s->delta_bias)[row] : 0;
        skip[i] = 0;
        for (int64_t j = 0; s->D && i < count && j < s->directions; j++)
            skip[i] += ((const REAL *)s->D)[j * s->channels + channel + i];
    }
}

/* Phase 1. */
INLINE void FN(read_chunk)(const struct scan *s, FN(chunk) *c, int length, const FN(maps) *m, int64_t count, int first) {
    for (int t = 0; t < length; t++) {
        int64_t p = c->position[t];
        for (int i = 0; i < BLOCK && i < count; i += LANES) {
            VEC step = FN(load_part)(m->delta + p * s->delta_stride[2] + i, count - i) + FN(load)(c->bias + i);
            VEC x = FN(load_part)(m->u + p * s->u_stride[1] + i, count - i);
            if (s->softplus) step = FN(softplus)(step);
            FN(store)(c->step[t] + i, step);
            FN(store)(c->input[t] + i, step * x);
            FN(store)(c->y[t] + i, first ? x * FN(load)(c->skip + i)
                                         : FN(load_part)(m->y + p * s->y_stride[1] + i, count - i));
        }
    }
}

/* Phase 2 for `states` states (a constant where this is inlined) and one vector of channels. */
INLINE void FN(scan_states)(const int states, const struct scan *s, FN(chunk) *c, int length, const REAL *A, REAL *h,
                            const REAL *B, const REAL *C, int i) {
    VEC state[GROUP], a[GROUP];
    UNROLL for (int n = 0; n < states; n++) {
        state[n] = FN(load)(h + n * BLOCK + i);
        a[n] = FN(load)(A + n * BLOCK + i);
    }
    for (int t = 0; t < length; t++) {
        const REAL *b = B + c->position[t] * s->B_stride[3], *o = C + c->position[t] * s->C_stride[3];
        VEC step = FN(load)(c->step[t] + i), input = FN(load)(c->input[t] + i), y = FN(load)(c->y[t] + i);
        UNROLL for (int n = 0; n < states; n++) {
            state[n] = FN(exp_scaled)(step * a[n]) * state[n] + input * b[n];
            y += state[n] * o[n];
        }
        FN(store)(c->y[t] + i, y);
    }
    UNROLL for (int n = 0; n < states; n++) FN(store)(h + n * BLOCK + i, state[n]);
}

INLINE void FN(scan_chunk)(const struct scan *s, FN(chunk) *c, int length, const REAL *A, REAL *h, const REAL *B,
                           const REAL *C, int64_t count) {
    for (int i = 0; i < BLOCK && i < count; i += LANES)
        for (int64_t n = 0; n < s->states; n += GROUP) {
#define SCAN(states) FN(scan_states)(states, s, c, length, A + n * BLOCK, h + n * BLOCK, B + n, C + n, i)
            SWITCH_STATES(s->states - n, SCAN)
#undef SCAN
        }
}

/* Phase 3. */
INLINE void FN(write_chunk)(const struct scan *s, const FN(chunk) *c, int length, REAL *y, int64_t count) {
    for (int t = 0; t < length; t++)
        for (int i = 0; i < BLOCK && i < count; i += LANES)
            FN(store_part)(y + c->position[t] * s->y_stride[1] + i, FN(load)(c->y[t] + i), count - i);
}

static size_t FN(forward_scratch)(const struct scan *s) {
    return sizeof(FN(chunk)) + 2 * (size_t)s->states * BLOCK * sizeof(REAL);
}

static void FN(forward_unit)(const struct scan *s, int64_t unit, void *scratch) {
    struct unit at = locate_block(s, unit, BLOCK);
    FN(chunk) *c = scratch;
    REAL *A = (REAL *)(c + 1), *h = A + s->states * BLOCK;
    for (int64_t k = 0; k < s->directions; k++) {
        FN(maps) m = FN(locate)(s, at, k);
        FN(load_parameters)(s, A, c->bias, c->skip, k, at.channel, at.count);
        memset(h, 0, s->states * BLOCK * sizeof(REAL));
        for (int64_t i = 0; i < chunk_count(s, CHUNK); i++) {
            int length = set_positions(s, k, i, CHUNK, c->position);
            FN(read_chunk)(s, c, length, &m, at.count, k == 0);
            FN(scan_chunk)(s, c, length, A, h, m.B, m.C, at.count);
            FN(write_chunk)(s, c, length, m.y, at.count);
        }
    }
}
