/* The encoder's choice of a displacement for each block, as block_refinement.py defines it; read that first.
 *
 * Every round looks at all blocks in parallel and reads what the round before chose, so the result does not depend on
 * the number of threads. The function is called through ctypes.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "portable.h"

enum { STEPS = 5, BESIDE = 4 };

typedef struct {
    const float *current, *past, *flow; /* luma (height, width), luma, (2, height, width) */
    int64_t height, width, rows, columns, block;
    float samples, scale; /* of `bits_of_error` */
    const float *prices;  /* of no vector, of a vector, of each axis other than 0, of each doubling of its size */
    int32_t most;
} problem;

typedef struct {
    float cost;
    int32_t x, y; /* quarters of a pixel */
} choice;

/* The squared differences of one row of a block from the past, sampled bilinearly, its border repeated. */
CLONES static float row_error(const float *current, const float *past, const float *flow_x, const float *flow_y,
                              int64_t count, float column, float row, float right, float bottom, int64_t stride) {
    float sum = 0;
    for (int64_t i = 0; i < count; i++) {
        float x = column + (float)i + flow_x[i], y = row + flow_y[i];
        x = x < 0 ? 0 : x > right ? right : x;
        y = y < 0 ? 0 : y > bottom ? bottom : y;
        const int32_t x0 = (int32_t)x, y0 = (int32_t)y;
        const int32_t x1 = x0 + ((float)x0 < right), y1 = y0 + ((float)y0 < bottom);
        const float u = x - (float)x0, v = y - (float)y0;
        const int32_t width = (int32_t)stride;
        const float above = past[y0 * width + x0] + u * (past[y0 * width + x1] - past[y0 * width + x0]);
        const float below = past[y1 * width + x0] + u * (past[y1 * width + x1] - past[y1 * width + x0]);
        const float difference = above + v * (below - above) - current[i];
        sum += difference * difference;
    }
    return sum;
}

static float axis_bits(const problem *p, int32_t size) {
    return size ? p->prices[2] + p->prices[3] * log2f(1 + (float)abs(size)) : 0;
}

static float vector_bits(const problem *p, int32_t x, int32_t y) {
    return x || y ? p->prices[1] + axis_bits(p, x) + axis_bits(p, y) : p->prices[0];
}

static void try(const problem *p, int64_t row, int64_t column, int32_t x, int32_t y, choice *best) {
    if (abs(x) > p->most || abs(y) > p->most || (x == best->x && y == best->y)) return;
    const int64_t top = row * p->block, left = column * p->block;
    const int64_t height = p->height - top < p->block ? p->height - top : p->block;
    const int64_t width = p->width - left < p->block ? p->width - left : p->block;
    const float spent = vector_bits(p, x, y);
    /* an error from which on the candidate can't win */
    const float hopeless = (exp2f((best->cost - spent) / (0.5f * p->samples)) - 1) / p->scale;
    float error = 0;
    for (int64_t i = 0; i < height && error < hopeless; i++) {
        const int64_t at = (top + i) * p->width + left;
        error += row_error(p->current + at, p->past, p->flow + at, p->flow + p->height * p->width + at, width,
                           (float)left + 0.25f * (float)x, (float)(top + i) + 0.25f * (float)y, (float)(p->width - 1),
                           (float)(p->height - 1), p->width);
    }
    if (error >= hopeless) return;
    const float cost = 0.5f * p->samples * log2f(1 + p->scale * error) + spent;
    if (cost < best->cost) *best = (choice){cost, x, y};
}

static int32_t quarters(float pixels) { return (int32_t)floorf(4 * pixels + 0.5f); }

static int64_t centre(const problem *p, int64_t row, int64_t column) {
    const int64_t y = row * p->block + p->block / 2, x = column * p->block + p->block / 2;
    return (y < p->height ? y : p->height - 1) * p->width + (x < p->width ? x : p->width - 1);
}

/* The motion of the blocks around in place of the own. */
static void try_around(const problem *p, int64_t row, int64_t column, choice *best) {
    const int64_t plane = p->height * p->width, own = centre(p, row, column);
    for (int distance = 1; distance <= 2; distance++)
        for (int down = -1; down <= 1; down++)
            for (int right = -1; right <= 1; right++) {
                int64_t r = row + down * distance, c = column + right * distance;
                r = r < 0 ? 0 : r >= p->rows ? p->rows - 1 : r;
                c = c < 0 ? 0 : c >= p->columns ? p->columns - 1 : c;
                const int64_t other = centre(p, r, c);
                try(p, row, column, quarters(p->flow[other] - p->flow[own]),
                    quarters(p->flow[plane + other] - p->flow[plane + own]), best);
            }
}

static void refine(const problem *p, int64_t row, int64_t column, choice *best) {
    static const int32_t steps[STEPS] = {8, 4, 4, 2, 1};
    best->cost = INFINITY, best->x = p->most + 1; /* nothing was tried yet */
    try(p, row, column, 0, 0, best);
    if (best->cost <= vector_bits(p, 0, 1)) return; /* no vector costs less, whatever it predicts */
    try_around(p, row, column, best);
    for (int i = 0; i < STEPS; i++) {
        const int32_t x = best->x, y = best->y;
        for (int down = -1; down <= 1; down++)
            for (int right = -1; right <= 1; right++)
                try(p, row, column, x + right * steps[i], y + down * steps[i], best);
    }
}

static void try_beside(const problem *p, const choice *before, int64_t row, int64_t column,
                       choice *best) {
    static const int steps[BESIDE][2] = {{-1, 0}, {1, 0}, {0, -1}, {0, 1}};
    for (int i = 0; i < BESIDE; i++) {
        const int64_t r = row + steps[i][0], c = column + steps[i][1];
        if (r < 0 || r >= p->rows || c < 0 || c >= p->columns) continue;
        try(p, row, column, before[r * p->columns + c].x, before[r * p->columns + c].y, best);
    }
}

/* Returns 0, or -1 where memory is lacking. current, past: luma (height, width); flow: (2, height, width); samples, scale: see
 * `bits_of_error`; prices: NO_VECTOR, VECTOR, AXIS, DOUBLING; result: (2, rows, columns), whole quarters of a pixel. */
PUBLIC int block_refinement(const float *current, const float *past, const float *flow, int64_t height, int64_t width,
                            int64_t block, int most, const float *prices, float samples, float scale, int threads,
                            float *result) {
    const int64_t rows = (height + block - 1) / block, columns = (width + block - 1) / block, count = rows * columns;
    const problem p = {current, past, flow, height, width, rows, columns, block, samples, scale, prices, most};
    choice *first = malloc(2 * (size_t)count * sizeof(choice)), *last = first + count;
    if (!first) return -1;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads) if (threads > 1)
#endif
    for (int64_t i = 0; i < count; i++) refine(&p, i / columns, i % columns, &first[i]);
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads) if (threads > 1)
#endif
    for (int64_t i = 0; i < count; i++) {
        last[i] = first[i];
        try_beside(&p, first, i / columns, i % columns, &last[i]);
        result[i] = (float)last[i].x, result[count + i] = (float)last[i].y;
    }
    (void)threads;
    free(first);
    return 0;
}
