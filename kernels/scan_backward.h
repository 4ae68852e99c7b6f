/* The backward scan of one unit of work: all directions of a slice of neighbouring channels of one sample.
 *
 * The states are not kept from the forward scan. A first sweep along a direction keeps those at the start of every
 * chunk; a second one goes backward over the chunks, puts decays and states of a chunk on a tape that fits the cache,
 * and walks it from its end with the gradient of the states: dh_t = C_t dy_t + a_{t+1} dh_{t+1}, a_t = exp(step_t A).
 *
 * The gradients of B and C are sums over channels. They are added up lane by lane over the vectors of the slice, then
 * over the lanes, and are the slice's own part: the caller adds up the slices. So no sum depends on the threads.
 */
typedef struct {
    int64_t vectors, chunk; /* vectors in the slice; steps in a chunk */
    /* For each vector of the slice one row of lanes, or `states` of them: */
    REAL *A, *dA, *h, *dh;
    REAL *bias, *dbias, *skip, *dskip;
    REAL *start; /* the states at the start of each chunk: for each chunk and vector `states` rows */
    /* The tape of a chunk, of one vector: */
    REAL *step, *slope; /* a row for each step; slope is d step / d delta */
    REAL *decay, *state; /* `states` rows for each step; state also for the end of the last one */
    /* Of a chunk, summed over the vectors: `states` rows for each step. */
    REAL *dB, *dC;
    int64_t *position, *ahead; /* of the chunk's steps; of those of the chunk that comes next */
} FN(slice);

/* Lay out the scratch memory of a slice; returns its size in bytes. */
static size_t FN(lay_out)(const struct scan *s, FN(slice) *x, int64_t channels, void *scratch) {
    int64_t N = s->states;
    x->vectors = (channels + LANES - 1) / LANES;
    x->chunk = backward_chunk(s);
    x->position = scratch;
    x->ahead = x->position + BACKWARD_CHUNK;
    REAL *next = (REAL *)(x->ahead + BACKWARD_CHUNK);
#define ROWS(name, count) x->name = next, next += (count) * LANES
    ROWS(A, x->vectors * N);
    ROWS(dA, x->vectors * N);
    ROWS(h, x->vectors * N);
    ROWS(dh, x->vectors * N);
    ROWS(bias, x->vectors);
    ROWS(dbias, x->vectors);
    ROWS(skip, x->vectors);
    ROWS(dskip, x->vectors);
    ROWS(step, x->chunk);
    ROWS(slope, x->chunk);
    ROWS(decay, x->chunk * N);
    ROWS(state, (x->chunk + 1) * N);
    ROWS(dB, x->chunk * N + LANES);
    ROWS(dC, x->chunk * N + LANES);
    ROWS(start, chunk_count(s, x->chunk) * x->vectors * N);
#undef ROWS
    return (char *)next - (char *)scratch;
}

static size_t FN(backward_scratch)(const struct scan *s) {
    FN(slice) x;
    return FN(lay_out)(s, &x, largest_slice(s), NULL);
}

/* The recurrence over `tile` steps (a constant where this is inlined), from the t-th of the chunk on, for vector v, of
 * which `lanes` lanes exist (LANES, a constant, where all do). With `keep` it is put on the tape. */
INLINE void FN(advance_tile)(const int tile, const int keep, const int64_t lanes, const struct scan *s,
                             const FN(maps) *m, const FN(slice) *x, int64_t v, int t0) {
    int64_t i = v * LANES, N = s->states;
    const int64_t *position = x->position + t0, *ahead = x->ahead + t0;
    VEC step[TILE], slope[TILE], input[TILE], decay[TILE];
    const REAL *B[TILE];
    if (i % LINE == 0)
        EACH(t, tile) {
            PREFETCH(m->delta + ahead[t] * s->delta_stride[2] + i);
            PREFETCH(m->u + ahead[t] * s->u_stride[1] + i);
            if (keep) PREFETCH(m->dy + ahead[t] * s->dy_stride[1] + i);
            if (keep) PREFETCH(m->du + ahead[t] * s->du_stride[1] + i);
            if (keep && !s->stream) PREFETCH(m->ddelta + ahead[t] * s->ddelta_stride[2] + i);
        }
    for (int64_t n = 0; v == 0 && n < N; n += LINE)
        EACH(t, tile) {
            PREFETCH(m->B + ahead[t] * s->B_stride[3] + n);
            if (keep) PREFETCH(m->C + ahead[t] * s->C_stride[3] + n);
        }
    EACH(t, tile) {
        step[t] = FN(load_part)(m->delta + position[t] * s->delta_stride[2] + i, lanes) + FN(load)(x->bias + i);
        slope[t] = BROADCAST(1);
    }
    if (s->softplus && keep) FN(softplus_and_slope)(tile, step, slope);
    if (s->softplus && !keep) FN(softplus)(tile, step);
    EACH(t, tile) {
        input[t] = step[t] * FN(load_part)(m->u + position[t] * s->u_stride[1] + i, lanes);
        B[t] = m->B + position[t] * s->B_stride[3];
        if (keep) FN(store)(x->step + (t0 + t) * LANES, step[t]);
        if (keep) FN(store)(x->slope + (t0 + t) * LANES, slope[t]);
    }
    /* Locals: the compiler would read the pointers again after every store, which might have changed them. */
    const REAL *A = x->A + v * N * LANES;
    REAL *h = x->h + v * N * LANES, *states = x->state + t0 * N * LANES, *decays = x->decay + t0 * N * LANES;
    for (int64_t n = 0; n < N; n++) {
        VEC state = FN(load)(h + n * LANES), a = FN(load)(A + n * LANES);
        EACH(t, tile) decay[t] = step[t] * a;
        FN(exp_scaled)(tile, decay);
        EACH(t, tile) {
            if (keep) FN(store)(states + (t * N + n) * LANES, state);
            if (keep) FN(store)(decays + (t * N + n) * LANES, decay[t]);
            state = decay[t] * state + input[t] * B[t][n];
        }
        FN(store)(h + n * LANES, state);
    }
}

/* The gradients over `tile` steps that are on the tape, the last one first. `first`: of the direction that no other
 * has added to. `alone`, a constant where every lane is a channel: of the vector that comes first to dB and dC, which
 * are not cleared before. */
INLINE void FN(retreat_tile)(const int tile, const int64_t lanes, const struct scan *s, const FN(maps) *m,
                             const FN(slice) *x, int64_t v, int t0, const int first, const int alone) {
    int64_t i = v * LANES, N = s->states;
    const int64_t *position = x->position + t0;
    VEC step[TILE], u[TILE], input[TILE], dy[TILE], dinput[TILE], dexponent[TILE];
    const REAL *B[TILE], *C[TILE];
    EACH(t, tile) {
        step[t] = FN(load)(x->step + (t0 + t) * LANES);
        u[t] = FN(load_part)(m->u + position[t] * s->u_stride[1] + i, lanes);
        dy[t] = FN(load_part)(m->dy + position[t] * s->dy_stride[1] + i, lanes);
        input[t] = step[t] * u[t];
        dinput[t] = dexponent[t] = BROADCAST(0);
        B[t] = m->B + position[t] * s->B_stride[3];
        C[t] = m->C + position[t] * s->C_stride[3];
    }
    const int64_t part = t0 * N * LANES;
    const REAL *A = x->A + v * N * LANES, *states = x->state + part, *decays = x->decay + part;
    REAL *dh = x->dh + v * N * LANES, *dA_sums = x->dA + v * N * LANES, *dB = x->dB + part, *dC = x->dC + part;
    for (int64_t n = 0; n < N; n++) {
        int64_t at = n * LANES;
        VEC carry = FN(load)(dh + at), dA = FN(load)(dA_sums + at), a = FN(load)(A + at);
        VEC after = FN(load)(states + (tile * N + n) * LANES);
        EACH(j, tile) {
            const int t = tile - 1 - j;
            int64_t row = (t * N + n) * LANES;
            VEC before = FN(load)(states + row), dstate = carry + dy[t] * C[t][n];
            VEC to_C = dy[t] * after, to_B = dstate * input[t];
            FN(store)(dC + row, alone ? to_C : FN(load)(dC + row) + to_C);
            FN(store)(dB + row, alone ? to_B : FN(load)(dB + row) + to_B);
            dinput[t] += dstate * B[t][n];
            carry = dstate * FN(load)(decays + row);
            VEC e = carry * before;
            dA += e * step[t];
            dexponent[t] += e * a;
            after = before;
        }
        FN(store)(dh + at, carry);
        FN(store)(dA_sums + at, dA);
    }
    VEC dbias = FN(load)(x->dbias + i), dskip = FN(load)(x->dskip + i), skip = FN(load)(x->skip + i);
    EACH(j, tile) {
        const int t = tile - 1 - j;
        REAL *du = m->du + position[t] * s->du_stride[1] + i;
        VEC ddelta = dinput[t] * u[t] + dexponent[t] * (REAL)(1 / EXP_SCALE);
        ddelta *= FN(load)(x->slope + (t0 + t) * LANES);
        REAL *target = m->ddelta + position[t] * s->ddelta_stride[2] + i;
        if (s->stream && lanes >= LANES)
            FN(stream)(target, ddelta);
        else
            FN(store_part)(target, ddelta, lanes);
        FN(store_part)(du, (first ? dy[t] * skip : FN(load_part)(du, lanes)) + dinput[t] * step[t], lanes);
        dbias += ddelta;
        if (first) dskip += dy[t] * u[t];
    }
    FN(store)(x->dbias + i, dbias);
    FN(store)(x->dskip + i, dskip);
}

INLINE void FN(advance_lanes)(const int keep, const int64_t lanes, const struct scan *s, const FN(maps) *m,
                              const FN(slice) *x, int64_t v, int length) {
    int t = 0;
    for (; t + TILE <= length; t += TILE) FN(advance_tile)(TILE, keep, lanes, s, m, x, v, t);
    for (; t < length; t++) FN(advance_tile)(1, keep, lanes, s, m, x, v, t);
}

static void FN(advance)(const struct scan *s, const FN(maps) *m, const FN(slice) *x, int64_t v, int64_t count,
                        int length) {
    int64_t lanes = count - v * LANES;
    if (lanes >= LANES)
        FN(advance_lanes)(0, LANES, s, m, x, v, length);
    else
        FN(advance_lanes)(0, lanes, s, m, x, v, length);
}

INLINE void FN(differentiate_lanes)(const int64_t lanes, const struct scan *s, const FN(maps) *m, const FN(slice) *x,
                                    int64_t v, int length, int first, const int alone) {
    FN(advance_lanes)(1, lanes, s, m, x, v, length);
    memcpy(x->state + length * s->states * LANES, x->h + v * s->states * LANES, s->states * sizeof(VEC));
    int t = length;
    for (; t % TILE; t--) FN(retreat_tile)(1, lanes, s, m, x, v, t - 1, first, alone);
    for (; t > 0; t -= TILE) FN(retreat_tile)(TILE, lanes, s, m, x, v, t - TILE, first, alone);
}

/* A chunk of vector v: there with a tape, and back. */
static void FN(differentiate_chunk)(const struct scan *s, const FN(maps) *m, const FN(slice) *x, int64_t v,
                                    int64_t count, int length, int first) {
    int64_t lanes = count - v * LANES;
    if (lanes < LANES)
        FN(differentiate_lanes)(lanes, s, m, x, v, length, first, v == 0);
    else if (v == 0)
        FN(differentiate_lanes)(LANES, s, m, x, v, length, first, 1);
    else
        FN(differentiate_lanes)(LANES, s, m, x, v, length, first, 0);
}

/* Go to chunk i, and look at the one that comes next, so that its part of the maps is fetched in time; returns the
 * number of steps in chunk i. */
static int FN(go_to_chunk)(const struct scan *s, const FN(slice) *x, int64_t k, int64_t i, int64_t next) {
    int length = set_positions(s, k, i * x->chunk, x->chunk, x->position);
    int known = next < 0 ? 0 : set_positions(s, k, next * x->chunk, x->chunk, x->ahead);
    for (int t = known; t < length; t++) x->ahead[t] = x->position[t];
    return length;
}

/* Add up the lanes of a chunk's sums, and write them where the slice's part of dB or dC lies. */
static void FN(write_sums)(const struct scan *s, const int64_t *position, int length, const REAL *sums, REAL *out) {
    int64_t count = length * s->states, n = 0, t = 0;
    for (int64_t i = 0; i < count; i += LANES) {
        REAL totals[LANES];
        FN(store)(totals, FN(sum_lanes)(sums + i * LANES));
        for (int64_t j = 0; j < LANES && i + j < count; j++) {
            out[position[t] * s->states + n] = totals[j];
            if (++n == s->states) n = 0, t++;
        }
    }
}

/* The sample's part of the gradients of A, delta_bias and D. */
static void FN(write_parameters)(const struct scan *s, const FN(slice) *x, int64_t k, struct unit at) {
    for (int64_t i = 0; i < at.count; i++) {
        int64_t row = (at.batch * s->directions + k) * s->channels + at.channel + i;
        for (int64_t n = 0; n < s->states; n++)
            ((REAL *)s->dA)[row * s->states + n] = x->dA[(i / LANES * s->states + n) * LANES + i % LANES];
        ((REAL *)s->dbias)[row] = x->dbias[i];
        ((REAL *)s->dD)[row] = x->dskip[i];
    }
}

/* One direction: the states at the start of every chunk, then the gradients chunk after chunk from its end. */
static void FN(differentiate)(const struct scan *s, const FN(maps) *m, const FN(slice) *x, int64_t k, int64_t count) {
    int64_t chunks = chunk_count(s, x->chunk), rows = s->states * LANES;
    for (int64_t i = 0; i < chunks; i++) {
        memcpy(x->start + i * x->vectors * rows, x->h, x->vectors * rows * sizeof(REAL));
        if (i == chunks - 1) break;
        int length = FN(go_to_chunk)(s, x, k, i, i + 1);
        for (int64_t v = 0; v < x->vectors; v++) FN(advance)(s, m, x, v, count, length);
    }
    for (int64_t i = chunks - 1; i >= 0; i--) {
        int length = FN(go_to_chunk)(s, x, k, i, i - 1);
        memcpy(x->h, x->start + i * x->vectors * rows, x->vectors * rows * sizeof(REAL));
        for (int64_t v = 0; v < x->vectors; v++) FN(differentiate_chunk)(s, m, x, v, count, length, k == 0);
        FN(write_sums)(s, x->position, length, x->dB, m->dB);
        FN(write_sums)(s, x->position, length, x->dC, m->dC);
    }
}

static void FN(backward_unit)(const struct scan *s, int64_t unit, void *scratch) {
    struct unit at = locate_slice(s, unit);
    FN(slice) x;
    FN(lay_out)(s, &x, at.count, scratch);
    memset(x.dskip, 0, x.vectors * sizeof(VEC));
    for (int64_t k = 0; k < s->directions; k++) {
        FN(maps) m = FN(locate)(s, at, k);
        for (int64_t i = 0; i < at.count; i += LANES)
            FN(load_parameters)(s, x.A + i * s->states, x.bias + i, x.skip + i, k, at.channel + i, at.count - i);
        memset(x.dA, 0, x.vectors * s->states * sizeof(VEC));
        memset(x.h, 0, x.vectors * s->states * sizeof(VEC));
        memset(x.dh, 0, x.vectors * s->states * sizeof(VEC));
        memset(x.dbias, 0, x.vectors * sizeof(VEC));
        FN(differentiate)(s, &m, &x, k, at.count);
        FN(write_parameters)(s, &x, k, at);
    }
    FENCE();
}
