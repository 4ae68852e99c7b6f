/* Whole shifts: the choices of every block and what they cost, and the field that is chosen of them. */

/* Costs of all shifts, for blocks of 2x2 pixels over windows of 4x4, and the shift to start from. */
ROW void try_all(const search *s, int64_t sample, int64_t row) {
    const picture *current = &s->pyramid[0][s->level], *past = &s->pyramid[1][s->level];
    const int64_t stride = s->flow.stride;
    const float far = s->far * s->change_price * s->price[sample];
    for (int64_t first = 0; first < s->flow.columns; first += TILE) {
        float best[TILE], best_x[TILE], best_y[TILE];
        for (int i = 0; i < TILE; i++) best[i] = 1e30f;
        for (int k = 0; k < SIDE * SIDE; k++) {
            int dx = k % SIDE - COARSE_REACH, dy = k / SIDE - COARSE_REACH;
            float columns[3 * TILE] = {0}; /* sums of four rows, from a pixel left of the first block on */
            for (int y = -1; y < 3; y++) {
                const float *a = pixels(current, sample, 2 * row + y) + 2 * first - 1;
                const float *b = pixels(past, sample, 2 * row + y + dy) + 2 * first - 1 + dx;
                for (int i = 0; i < 3 * TILE; i++) columns[i] += (a[i] - b[i]) * (a[i] - b[i]);
            }
            float distance = far * (abs(dx) + abs(dy));
            float *cost = s->cost + choice(s, sample, row) + k * stride + first;
            for (int i = 0; i < TILE; i++) {
                float mean = (columns[2 * i] + columns[2 * i + 1] + columns[2 * i + 2] + columns[2 * i + 3]) / 16;
                int better = mean + distance < best[i];
                best[i] = better ? mean + distance : best[i];
                best_x[i] = better ? dx : best_x[i];
                best_y[i] = better ? dy : best_y[i];
                cost[i] = mean;
            }
        }
        int64_t at = (sample * s->flow.rows + row) * stride + first;
        memcpy(s->flow.x + at, best_x, sizeof best_x);
        memcpy(s->flow.y + at, best_y, sizeof best_y);
    }
}

/* The squared difference of two windows; summed by columns, as vectors are. */
INLINE float difference(const float *a, int64_t a_stride, const float *b, int64_t b_stride, int window) {
    float columns[16] = {0}, sums[4] = {0};
    for (int y = 0; y < window; y++, a += a_stride, b += b_stride)
        for (int x = 0; x < window; x++) columns[x] += (a[x] - b[x]) * (a[x] - b[x]);
    for (int x = 0; x < window; x++) sums[x % 4] += columns[x];
    return (sums[0] + sums[1] + sums[2] + sums[3]) / (window * window);
}

/* Choices and costs: the motion so far within +-radius, the neighbours' and none. */
INLINE void try_near(const search *s, int64_t sample, int64_t row, int window) {
    const picture *current = &s->pyramid[0][s->level], *past = &s->pyramid[1][s->level];
    const field *f = &s->flow;
    const float *flow_x = s->flow.x + sample * f->rows * f->stride, *flow_y = f->y + sample * f->rows * f->stride;
    const int side = 2 * s->radius + 1, near = side * side, margin = (window - s->block) / 2;
    for (int64_t column = 0; column < f->columns; column++) {
        const float *a = pixels(current, sample, s->block * row - margin) + s->block * column - margin;
        const float *b = pixels(past, sample, s->block * row - margin) + s->block * column - margin;
        const int64_t here = row * f->stride + column, at = choice(s, sample, row) + column;
        const int64_t other[4] = {clamp(row - 1, f->rows) * f->stride + column,
                                  clamp(row + 1, f->rows) * f->stride + column,
                                  row * f->stride + clamp(column - 1, f->columns),
                                  row * f->stride + clamp(column + 1, f->columns)};
        const int left = (int)flow_x[here] - s->radius, top = (int)flow_y[here] - s->radius;
        for (int k = 0; k < s->choices; k++) {
            int x = 0, y = 0, known = k;
            if (k < near) {
                x = left + k % side, y = top + k / side;
            } else {
                if (k < near + 4) x = (int)flow_x[other[k - near]], y = (int)flow_y[other[k - near]];
                if (x >= left && x < left + side && y >= top && y < top + side)
                    known = (y - top) * side + x - left;
            }
            float *cost = s->cost + at + k * f->stride;
            *cost = known < k ? s->cost[at + known * f->stride]
                              : difference(a, current->stride, b + y * past->stride + x, past->stride, window);
            s->choice_x[at + k * f->stride] = x;
            s->choice_y[at + k * f->stride] = y;
        }
    }
}

ROW void try_near_window_12(const search *s, int64_t sample, int64_t row) { try_near(s, sample, row, 12); }
ROW void try_near_window_16(const search *s, int64_t sample, int64_t row) { try_near(s, sample, row, 16); }

/* Iterated conditional modes: a row's positions of one colour take what suits their neighbours of the other. */
ROW void settle(const search *s, int64_t sample, int64_t row) {
    const field *f = &s->before;
    const float price = s->change_price * s->price[sample], longest = s->longest;
    const int64_t here = (sample * f->rows + row) * f->stride, colour = (row + s->turn) % 2;
    const int64_t above = row ? here - f->stride : here, below = row < f->rows - 1 ? here + f->stride : here;
    for (int64_t first = 0; first < f->columns; first += TILE) {
        float x[4][TILE], y[4][TILE], least[TILE];
        int best[TILE];
        for (int i = 0; i < TILE; i++) {
            const int64_t left = clamp(first + i - 1, f->columns), right = clamp(first + i + 1, f->columns);
            const int64_t neighbours[4] = {above + first + i, below + first + i, here + left, here + right};
            for (int k = 0; k < 4; k++) x[k][i] = f->x[neighbours[k]], y[k][i] = f->y[neighbours[k]];
            least[i] = INFINITY, best[i] = 0;
        }
        const int64_t start = choice(s, sample, row) + first;
        const float *choice_x = s->choice_x + (s->shared ? first : start);
        const float *choice_y = s->choice_y + (s->shared ? first : start);
        for (int64_t k = 0, at = 0; k < s->choices; k++, at += f->stride)
            for (int i = 0; i < TILE; i++) {
                float to_x = choice_x[at + i], to_y = choice_y[at + i];
                float changes = smaller(fabsf(to_x - x[0][i]) + fabsf(to_y - y[0][i]), longest) +
                                smaller(fabsf(to_x - x[1][i]) + fabsf(to_y - y[1][i]), longest) +
                                smaller(fabsf(to_x - x[2][i]) + fabsf(to_y - y[2][i]), longest) +
                                smaller(fabsf(to_x - x[3][i]) + fabsf(to_y - y[3][i]), longest);
                float total = s->cost[start + at + i] + price * changes;
                int so_far = best[i];
                best[i] = total < least[i] ? (int)k : so_far;
                least[i] = smaller(total, least[i]);
            }
        for (int i = 0; i < TILE && first + i < f->columns; i++) {
            const int64_t to = here + first + i, from = best[i] * f->stride + i;
            const int now = (first + i) % 2 != colour;
            s->flow.x[to] = now ? choice_x[from] : f->x[to];
            s->flow.y[to] = now ? choice_y[from] : f->y[to];
        }
    }
}

/* The field before, each position spread over spread^2 new ones, its motion in the new level's pixels. */
ROW void enlarge(const search *s, int64_t sample, int64_t row) {
    const field *to = &s->flow, *from = &s->before;
    const int64_t out = (sample * to->rows + row) * to->stride;
    const int64_t in = (sample * from->rows + row / s->spread) * from->stride;
    for (int64_t i = 0; i < to->columns; i++) {
        to->x[out + i] = s->factor * from->x[in + i / s->spread];
        to->y[out + i] = s->factor * from->y[in + i / s->spread];
    }
}
