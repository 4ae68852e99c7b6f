/* The forward scan of one unit of work: all directions of BLOCK neighbouring channels of one sample.
 *
 * The channels lie side by side in memory, so a vector holds LANES of them and each lane runs its own recurrence.
 * The sequence is cut into chunks; a chunk goes through three phases, of which only the first and the last touch
 * the map: (1) read delta and u, make the steps; (2) run the recurrence, a few states at a time, all in registers,
 * adding to y; (3) write y.
 */
#define BLOCK ((int)(64 / sizeof(REAL)))
#define VECTORS (BLOCK / LANES)

/* What phase 1 leaves behind, a row of BLOCK lanes for each step of the chunk. */
typedef struct {
    REAL step[CHUNK][BLOCK]; /* softplus(delta + delta_bias) */
    REAL input[CHUNK][BLOCK]; /* step * u */
    REAL y[CHUNK][BLOCK];
    int64_t position[CHUNK];
} FN(chunk);

/* The parameters of the block's channels in one direction, and the states; n-th row, one lane a channel. */
typedef struct {
    REAL bias[BLOCK];
    REAL skip[BLOCK]; /* D, summed over the directions */
    REAL *A; /* times EXP_SCALE */
    REAL *h;
} FN(block);

INLINE void FN(load_parameters)(const struct scan *s, FN(block) *block, int64_t k, int64_t channel, int64_t count) {
    const REAL *A = s->A, *D = s->D, *bias = s->delta_bias;
    for (int64_t i = 0; i < BLOCK; i++) {
        int64_t row = k * s->channels + channel + i;
        for (int64_t n = 0; n < s->states; n++) {
            block->A[n * BLOCK + i] = i < count ? A[row * s->states + n] * EXP_SCALE : 0;
            block->h[n * BLOCK + i] = 0;
        }
        block->bias[i] = bias && i < count ? bias[row] : 0;
        block->skip[i] = 0;
        for (int64_t j = 0; D && i < count && j < s->directions; j++)
            block->skip[i] += D[j * s->channels + channel + i];
    }
}

/* Phase 1. */
INLINE void FN(read_chunk)(const struct scan *s, FN(chunk) *c, const FN(block) *block, int length, const REAL *u,
                           const REAL *delta, const REAL *y, int64_t count, int first) {
    for (int t = 0; t < length; t++) {
        int64_t p = c->position[t];
        for (int v = 0; v < VECTORS; v++) {
            int i = v * LANES;
            if (i >= count) break;
            VEC step = FN(load_part)(delta + p * s->delta_stride[2] + i, count - i) + FN(load)(block->bias + i);
            VEC x = FN(load_part)(u + p * s->u_stride[1] + i, count - i);
            if (s->softplus) step = FN(softplus)(step);
            FN(store)(c->step[t] + i, step);
            FN(store)(c->input[t] + i, step * x);
            FN(store)(c->y[t] + i, first ? x * FN(load)(block->skip + i)
                                         : FN(load_part)(y + p * s->y_stride[1] + i, count - i));
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

INLINE void FN(scan_chunk)(const struct scan *s, FN(chunk) *c, FN(block) *block, int length, const REAL *B,
                           const REAL *C, int64_t count) {
    for (int i = 0; i < BLOCK && i < count; i += LANES) {
        for (int64_t n = 0; n < s->states; n += GROUP) {
            REAL *A = block->A + n * BLOCK, *h = block->h + n * BLOCK;
            switch (s->states - n) {
                case 1: FN(scan_states)(1, s, c, length, A, h, B + n, C + n, i); break;
                case 2: FN(scan_states)(2, s, c, length, A, h, B + n, C + n, i); break;
                case 3: FN(scan_states)(3, s, c, length, A, h, B + n, C + n, i); break;
#if GROUP == 8
                case 4: FN(scan_states)(4, s, c, length, A, h, B + n, C + n, i); break;
                case 5: FN(scan_states)(5, s, c, length, A, h, B + n, C + n, i); break;
                case 6: FN(scan_states)(6, s, c, length, A, h, B + n, C + n, i); break;
                case 7: FN(scan_states)(7, s, c, length, A, h, B + n, C + n, i); break;
#endif
                default: FN(scan_states)(GROUP, s, c, length, A, h, B + n, C + n, i);
            }
        }
    }
}

static size_t FN(forward_scratch)(const struct scan *s) {
    return sizeof(FN(chunk)) + sizeof(FN(block)) + 2 * (size_t)s->states * BLOCK * sizeof(REAL);
}

static void FN(forward_unit)(const struct scan *s, int64_t unit, void *scratch) {
    struct unit at = locate_unit(s, unit, BLOCK);
    FN(chunk) *c = scratch;
    FN(block) *block = (FN(block) *)(c + 1);
    block->A = (REAL *)(block + 1);
    block->h = block->A + s->states * BLOCK;
    const REAL *u = (const REAL *)s->u + at.batch * s->u_stride[0] + at.channel;
    REAL *y = (REAL *)s->y + at.batch * s->y_stride[0] + at.channel;
    int64_t total = s->height * s->width;
    for (int64_t k = 0; k < s->directions; k++) {
        const REAL *delta = (const REAL *)s->delta + at.batch * s->delta_stride[0] + k * s->delta_stride[1] + at.channel;
        const REAL *B = (const REAL *)s->B + at.batch * s->B_stride[0] + k * s->B_stride[1] + at.group * s->B_stride[2];
        const REAL *C = (const REAL *)s->C + at.batch * s->C_stride[0] + k * s->C_stride[1] + at.group * s->C_stride[2];
        FN(load_parameters)(s, block, k, at.channel, at.count);
        for (int64_t start = 0; start < total; start += CHUNK) {
            int length = total - start < CHUNK ? (int)(total - start) : CHUNK;
            set_positions(s, k, start, length, c->position);
            FN(read_chunk)(s, c, block, length, u, delta, y, at.count, k == 0);
            FN(scan_chunk)(s, c, block, length, B, C, at.count);
            for (int t = 0; t < length; t++)
                for (int i = 0; i < BLOCK && i < at.count; i += LANES)
                    FN(store_part)(y + c->position[t] * s->y_stride[1] + i, FN(load)(c->y[t] + i), at.count - i);
        }
    }
}
