/* The forward scan of one unit of work: all directions of a block of neighbouring channels of one sample.
 *
 * The channels lie side by side in memory, so a vector holds LANES of them and each lane runs its own recurrence.
 * A tile of steps is in registers, with their inputs and outputs, while the states pass by one after the other:
 * working on several steps at once hides the latency of exp and log.
 */
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

/* The parameters of up to LANES channels in one direction, a row for each state: A times EXP_SCALE, the bias of
 * delta, and D summed over the directions. */
static void FN(load_parameters)(const struct scan *s, REAL *A, REAL *bias, REAL *skip, int64_t k, int64_t channel,
                                int64_t count) {
    for (int64_t i = 0; i < LANES; i++) {
        int64_t row = k * s->channels + channel + i;
        for (int64_t n = 0; n < s->states; n++)
            A[n * LANES + i] = i < count ? ((const REAL *)s->A)[row * s->states + n] * EXP_SCALE : 0;
        bias[i] = s->delta_bias && i < count ? ((const REAL *)s->delta_bias)[row] : 0;
        skip[i] = 0;
        for (int64_t j = 0; s->D && i < count && j < s->directions; j++)
            skip[i] += ((const REAL *)s->D)[j * s->channels + channel + i];
    }
}

/* Where the unit's part of each map lies, for each step of a tile. */
typedef struct {
    const REAL *u[TILE], *delta[TILE], *B[TILE], *C[TILE];
    REAL *y[TILE];
} FN(places);

INLINE FN(places) FN(find)(const int tile, const struct scan *s, const FN(maps) *m, const int64_t *position) {
    FN(places) at;
    EACH(t, tile) {
        at.u[t] = m->u + position[t] * s->u_stride[1];
        at.delta[t] = m->delta + position[t] * s->delta_stride[2];
        at.y[t] = m->y + position[t] * s->y_stride[1];
        at.B[t] = m->B + position[t] * s->B_stride[3];
        at.C[t] = m->C + position[t] * s->C_stride[3];
    }
    return at;
}

/* A unit's rows of lanes, of each vector of its channels one, `states` of A and of the states h, TILE of the rest. */
typedef struct {
    REAL *bias, *skip, *A, *h;
    REAL *step, *input; /* of a tile: the step sizes, and the inputs of the recurrence, step * u */
} FN(rows);

/* Step sizes and inputs of `tile` steps (a constant where this is inlined), of the vector of channels that begins at
 * channel i of the unit, of which `count` exist. */
INLINE void FN(prepare_tile)(const int tile, const int64_t count, const int softplus, const FN(places) *at, int64_t i,
                             const FN(rows) *x) {
    VEC step[TILE], bias = FN(load)(x->bias + i);
    EACH(t, tile) step[t] = FN(load_part)(at->delta[t] + i, count) + bias;
    if (softplus) FN(softplus)(tile, step);
    REAL *steps = x->step + i * TILE, *inputs = x->input + i * TILE;
    EACH(t, tile) {
        FN(store)(steps + t * LANES, step[t]);
        FN(store)(inputs + t * LANES, step[t] * FN(load_part)(at->u[t] + i, count));
    }
}

/* The recurrence over these steps. */
INLINE void FN(scan_tile)(const int tile, const int64_t count, const int first, const int64_t states,
                          const FN(places) *at, int64_t i, const FN(rows) *x) {
    VEC step[TILE], input[TILE], y[TILE], skip = FN(load)(x->skip + i);
    /* Locals: the compiler would read the pointers again after every store, which might have changed them. */
    const REAL *B[TILE], *C[TILE], *A = x->A + i * states;
    REAL *h = x->h + i * states;
    EACH(t, tile) {
        step[t] = FN(load)(x->step + i * TILE + t * LANES);
        input[t] = FN(load)(x->input + i * TILE + t * LANES);
        y[t] = first ? FN(load_part)(at->u[t] + i, count) * skip : FN(load_part)(at->y[t] + i, count);
        B[t] = at->B[t], C[t] = at->C[t];
    }
    for (int64_t n = 0; n < states; n++) {
        VEC state = FN(load)(h + n * LANES), a = FN(load)(A + n * LANES), decay[TILE];
        EACH(t, tile) decay[t] = step[t] * a;
        FN(exp_scaled)(tile, decay);
        EACH(t, tile) {
            state = decay[t] * state + input[t] * B[t][n];
            y[t] += state * C[t][n];
        }
        FN(store)(h + n * LANES, state);
    }
    EACH(t, tile) FN(store_part)(at->y[t] + i, y[t], count);
}

/* All vectors of the unit over `tile` steps: first what the steps need, then the recurrence, since each of the two by
 * itself keeps the processor busier than both in turn for every vector. What is to be fetched for later steps is spread
 * over both, as only so many lines can be on their way at once. `whole`, a constant like `first`, tells that every lane
 * is a channel. */
INLINE void FN(scan_tiles)(const int tile, const int whole, const int first, const struct scan *s, const FN(places) *at,
                           const FN(places) *ahead, int64_t count, const FN(rows) *x) {
    for (int64_t n = 0; ahead && n < s->states; n += LINE)
        EACH(t, tile) {
            PREFETCH(ahead->B[t] + n);
            PREFETCH(ahead->C[t] + n);
        }
    for (int64_t i = 0; i < count; i += LANES) {
        if (ahead && i % LINE == 0) EACH(t, tile) PREFETCH(ahead->y[t] + i);
        FN(prepare_tile)(tile, whole ? LANES : count - i, s->softplus, at, i, x);
    }
    for (int64_t i = 0; i < count; i += LANES) {
        if (ahead && i % LINE == 0)
            EACH(t, tile) {
                PREFETCH(ahead->delta[t] + i);
                PREFETCH(ahead->u[t] + i);
            }
        FN(scan_tile)(tile, whole ? LANES : count - i, first, s->states, at, i, x);
    }
}

INLINE void FN(scan_direction)(const int whole, const int first, const struct scan *s, const FN(maps) *m, int64_t k,
                               int64_t count, const FN(rows) *x) {
    int64_t position[CHUNK + AHEAD], total = s->height * s->width;
    for (int64_t start = 0; start < total; start += CHUNK) {
        int known = set_positions(s, k, start, CHUNK + AHEAD, position), length = known < CHUNK ? known : CHUNK, t = 0;
        for (; t + TILE <= length; t += TILE) {
            FN(places) at = FN(find)(TILE, s, m, position + t), ahead;
            int far = t + AHEAD + TILE <= known;
            if (far) ahead = FN(find)(TILE, s, m, position + t + AHEAD);
            FN(scan_tiles)(TILE, whole, first, s, &at, far ? &ahead : NULL, count, x);
        }
        for (; t < length; t++) {
            FN(places) at = FN(find)(1, s, m, position + t);
            FN(scan_tiles)(1, whole, first, s, &at, NULL, count, x);
        }
    }
}

/* Lay out the scratch memory of a unit; returns its size in bytes. */
static size_t FN(lay_out_rows)(const struct scan *s, FN(rows) *x, void *scratch) {
    REAL *next = scratch;
#define ROWS(name, count) x->name = next, next += (count) * s->block
    ROWS(bias, 1);
    ROWS(skip, 1);
    ROWS(A, s->states);
    ROWS(h, s->states);
    ROWS(step, TILE);
    ROWS(input, TILE);
#undef ROWS
    return (char *)next - (char *)scratch;
}

static size_t FN(forward_scratch)(const struct scan *s) {
    FN(rows) x;
    return FN(lay_out_rows)(s, &x, NULL);
}

static void FN(forward_unit)(const struct scan *s, int64_t unit, void *scratch) {
    struct unit at = locate_block(s, unit);
    FN(rows) x;
    FN(lay_out_rows)(s, &x, scratch);
    for (int64_t k = 0; k < s->directions; k++) {
        FN(maps) m = FN(locate)(s, at, k);
        for (int64_t i = 0; i < at.count; i += LANES)
            FN(load_parameters)(s, x.A + i * s->states, x.bias + i, x.skip + i, k, at.channel + i, at.count - i);
        memset(x.h, 0, s->states * s->block * sizeof(REAL));
        if (at.count % LANES)
            FN(scan_direction)(0, k == 0, s, &m, k, at.count, &x);
        else if (k == 0)
            FN(scan_direction)(1, 1, s, &m, k, at.count, &x);
        else
            FN(scan_direction)(1, 0, s, &m, k, at.count, &x);
    }
}
