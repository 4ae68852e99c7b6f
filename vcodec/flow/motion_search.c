/* Block matching from coarse to fine, as motion_search.py defines it; read that first.
 *
 * Every step works on one row of a picture or of a field of motion, for all samples and rows in parallel; no step reads
 * what another thread writes, so the result does not depend on the number of threads. The pictures have margins that
 * repeat their border, as wide as motion can point: inner loops need no clamps. The function is called through ctypes.
 */
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__) && defined(__GLIBC__)
#define ROW __attribute__((target_clones("avx512f", "avx2", "default"))) static /* one build for every x86-64 */
#else
#define ROW static
#endif
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif
#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

#define BLOCK 8
#define CELL 4
#define COARSE_BLOCK 2 /* pixels, at the size where every shift is tried */
#define COARSE_REACH 10
#define SIDE (2 * COARSE_REACH + 1)
#define COARSEST 8 /* at most so many halvings */
#define TILE 16 /* positions of a field that are worked on at once; its rows are padded to a multiple */
#define MARGIN 8 /* pixels: of a window around its block */
#define SLACK 64 /* pixels right of a margin, for the last tile */

typedef struct {
    float *origin; /* the first sample's pixel (0, 0) */
    int64_t height, width, margin, stride, size; /* size: from sample to sample */
} picture;

typedef struct { /* motion in whole pixels of some level, or in pixels at the end */
    float *x, *y;
    int64_t rows, columns, stride;
} field;

typedef struct {
    const float *input[2]; /* current and past, (batch, 3, height, width) */
    const int64_t *strides[2];
    int64_t batch, height, width;
    picture pyramid[2][COARSEST + 1], warped;
    field flow, before;
    float *cost, *choice_x, *choice_y; /* (batch, rows, choices, stride); shared choices: the same (choices, stride) */
    float *products; /* (batch, 5, rows, stride) */
    float *result; /* (batch, 2, height / 4, width / 4) */
    const float *price; /* of each sample */
    float far, change, longest_change, shift;
    /* of the step at hand: */
    int level, block, radius, choices, shared, turn, spread;
    float factor, change_price, longest;
} search;

typedef void row_work(const search *, int64_t sample, int64_t row);

static void for_rows(const search *s, row_work *work, int64_t rows, int threads) {
    int64_t count = s->batch * rows;
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
#endif
    for (int64_t i = 0; i < count; i++) work(s, i / rows, i % rows);
    (void)threads;
}

INLINE int64_t clamp(int64_t i, int64_t count) { return i < 0 ? 0 : i < count ? i : count - 1; }

INLINE float smaller(float a, float b) { return a < b ? a : b; }

INLINE float larger(float a, float b) { return a > b ? a : b; }

INLINE float *pixels(const picture *p, int64_t sample, int64_t row) {
    return p->origin + sample * p->size + row * p->stride;
}

/* A row's place in the choices of motion. */
INLINE int64_t choice(const search *s, int64_t sample, int64_t row) {
    return (sample * s->flow.rows + row) * s->choices * s->flow.stride;
}

/* Repeats the border around a finished row. */
INLINE void extend(const picture *p, int64_t sample, int64_t row) {
    float *line = pixels(p, sample, row);
    for (int64_t i = 1; i <= p->margin; i++) line[-i] = line[0];
    for (int64_t i = 0; i < p->margin + SLACK; i++) line[p->width + i] = line[p->width - 1];
    int64_t above = row ? 0 : p->margin, below = row < p->height - 1 ? 0 : p->margin;
    for (int64_t i = -above; i <= below; i++)
        if (i) memcpy(line - p->margin + i * p->stride, line - p->margin, p->stride * sizeof *line);
}

ROW void luma(const search *s, int64_t sample, int64_t row) {
    for (int k = 0; k < 2; k++) {
        const picture *p = &s->pyramid[k][0];
        const int64_t *stride = s->strides[k];
        const float *from = s->input[k] + sample * stride[0] + clamp(row, s->height) * stride[2];
        float *to = pixels(p, sample, row);
        for (int64_t i = 0; i < s->width; i++, from += stride[3])
            to[i] = 0.299f * from[0] + 0.587f * from[stride[1]] + 0.114f * from[2 * stride[1]];
        for (int64_t i = s->width; i < p->width; i++) to[i] = to[s->width - 1];
        extend(p, sample, row);
    }
}

/* A row of the pictures of `level`, each pixel the mean of four. */
ROW void pool(const search *s, int64_t sample, int64_t row) {
    for (int k = 0; k < 2; k++) {
        const picture *p = &s->pyramid[k][s->level];
        const float *above = pixels(p - 1, sample, 2 * row), *below = above + p[-1].stride;
        float *to = pixels(p, sample, row);
        for (int64_t i = 0; i < p->width; i++)
            to[i] = 0.25f * (above[2 * i] + above[2 * i + 1] + below[2 * i] + below[2 * i + 1]);
        extend(p, sample, row);
    }
}

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

/* A line of pixels' motion, bilinear between the cells' centres; `share` is that of the row `below`. */
INLINE void interpolate(const float *above, const float *below, float share, int64_t first, int64_t columns,
                        float *line) {
    float cell[TILE + 2];
    for (int i = 0; i < TILE + 2; i++) {
        int64_t at = clamp(first + i - 1, columns);
        cell[i] = above[at] + share * (below[at] - above[at]);
    }
    for (int i = 0; i < TILE; i++)
        for (int k = 0; k < CELL; k++) {
            float to = (2 * k + 1 - CELL) / (2.0f * CELL); /* from the cell's centre, in cells */
            line[CELL * i + k] = cell[i + 1] + (to < 0 ? -to * (cell[i] - cell[i + 1]) : to * (cell[i + 2] - cell[i + 1]));
        }
}

/* The past picture, moved. */
ROW void warp(const search *s, int64_t sample, int64_t row) {
    const picture *past = &s->pyramid[1][0];
    const field *f = &s->flow;
    const float *from = pixels(past, sample, 0), share = (row % CELL + 0.5f) / CELL - 0.5f;
    const int64_t here = sample * f->rows * f->stride, cell = row / CELL;
    const int64_t upper = here + clamp(share < 0 ? cell - 1 : cell, f->rows) * f->stride;
    const int64_t lower = here + clamp(share < 0 ? cell : cell + 1, f->rows) * f->stride;
    const int stride = (int)past->stride;
    for (int64_t first = 0; first < f->columns; first += TILE) {
        float x[CELL * TILE], y[CELL * TILE], *to = pixels(&s->warped, sample, row) + CELL * first;
        interpolate(f->x + upper, f->x + lower, share < 0 ? 1 + share : share, first, f->columns, x);
        interpolate(f->y + upper, f->y + lower, share < 0 ? 1 + share : share, first, f->columns, y);
        for (int i = 0; i < CELL * TILE; i++) { /* past the right border into the slack, at worst */
            float column = smaller(larger(x[i] + (CELL * first + i), 0), past->width - 1);
            float line = smaller(larger(y[i] + row, 0), past->height - 1);
            int left = (int)column, top = (int)line, at = top * stride + left;
            float a = column - left, b = line - top;
            float above = from[at] + a * (from[at + 1] - from[at]);
            float below = from[at + stride] + a * (from[at + stride + 1] - from[at + stride]);
            to[i] = above + b * (below - above);
        }
    }
    extend(&s->warped, sample, row);
}

/* Lucas and Kanade's products of gradients and error, summed over the cells of a row. */
ROW void multiply(const search *s, int64_t sample, int64_t row) {
    const field *f = &s->flow;
    for (int64_t first = 0; first < f->columns; first += TILE) {
        float sums[5][CELL * TILE] = {{0}};
        for (int k = 0; k < CELL; k++) {
            const float *line = pixels(&s->warped, sample, CELL * row + k) + CELL * first;
            const float *above = line - s->warped.stride, *below = line + s->warped.stride;
            const float *current = pixels(&s->pyramid[0][0], sample, CELL * row + k) + CELL * first;
            for (int i = 0; i < CELL * TILE; i++) {
                float x = 0.5f * (line[i + 1] - line[i - 1]), y = 0.5f * (below[i] - above[i]);
                float error = current[i] - line[i];
                sums[0][i] += x * x, sums[1][i] += x * y, sums[2][i] += y * y;
                sums[3][i] += x * error, sums[4][i] += y * error;
            }
        }
        for (int k = 0; k < 5; k++) {
            float *to = s->products + ((sample * 5 + k) * f->rows + row) * f->stride + first, *from = sums[k];
            for (int i = 0; i < TILE; i++)
                to[i] = from[CELL * i] + from[CELL * i + 1] + from[CELL * i + 2] + from[CELL * i + 3];
        }
    }
}

INLINE float at_most_1(float a) { return larger(smaller(a, 1), -1); }

/* The mean of the four neighbours' differences, each at most a pixel. */
INLINE void difference_to_neighbours(const field *f, const float *line, int64_t row, int64_t first, float *mean) {
    const float *above = row ? line - f->stride : line, *below = row < f->rows - 1 ? line + f->stride : line;
    for (int i = 0; i < TILE; i++) {
        const int64_t column = clamp(first + i, f->columns), left = clamp(column - 1, f->columns);
        const int64_t right = clamp(column + 1, f->columns);
        const float here = line[column];
        mean[i] = 0.25f * (at_most_1(above[column] - here) + at_most_1(below[column] - here) +
                           at_most_1(line[left] - here) + at_most_1(line[right] - here));
    }
}

/* Their step, from the means over 3x3 cells, towards the neighbours where these leave it open. */
ROW void shift(const search *s, int64_t sample, int64_t row) {
    const field *f = &s->before;
    const float price = s->shift * s->price[sample];
    const int64_t top = row ? row - 1 : 0, bottom = row < f->rows - 1 ? row + 1 : row;
    for (int64_t first = 0; first < f->columns; first += TILE) {
        float means[5][TILE];
        for (int k = 0; k < 5; k++) {
            float columns[TILE + 2] = {0};
            for (int64_t r = top; r <= bottom; r++) {
                const float *from = s->products + ((sample * 5 + k) * f->rows + r) * f->stride + first - 1;
                for (int i = !first; i < TILE + 2 && first + i <= f->columns; i++) columns[i] += from[i];
            }
            for (int i = 0; i < TILE; i++) {
                int across = 3 - (first + i == 0) - (first + i == f->columns - 1);
                float pixels = (float)(CELL * CELL * across * (bottom - top + 1));
                means[k][i] = (columns[i] + columns[i + 1] + columns[i + 2]) / pixels;
            }
        }
        const int64_t here = (sample * f->rows + row) * f->stride;
        float to_x[TILE], to_y[TILE];
        difference_to_neighbours(f, f->x + here, row, first, to_x);
        difference_to_neighbours(f, f->y + here, row, first, to_y);
        for (int i = 0; i < TILE; i++) {
            float xx = means[0][i] + price, xy = means[1][i], yy = means[2][i] + price;
            float x = means[3][i] + price * to_x[i], y = means[4][i] + price * to_y[i], scale = 1 / (xx * yy - xy * xy);
            s->flow.x[here + first + i] = f->x[here + first + i] + at_most_1((yy * x - xy * y) * scale);
            s->flow.y[here + first + i] = f->y[here + first + i] + at_most_1((xx * y - xy * x) * scale);
        }
    }
}

INLINE void sort(float *a, float *b) {
    for (int i = 0; i < TILE; i++) {
        float low = smaller(a[i], b[i]), high = larger(a[i], b[i]);
        a[i] = low, b[i] = high;
    }
}

/* Medians over 3x3 cells, by the network of Smith (1996). */
ROW void median(const search *s, int64_t sample, int64_t row) {
    static const int PAIRS[19][2] = {{1, 2}, {4, 5}, {7, 8}, {0, 1}, {3, 4}, {6, 7}, {1, 2}, {4, 5}, {7, 8}, {0, 3},
                                      {5, 8}, {4, 7}, {3, 6}, {1, 4}, {2, 5}, {4, 7}, {4, 2}, {6, 4}, {4, 2}};
    const field *f = &s->flow;
    const int64_t rows = s->height / CELL, columns = s->width / CELL;
    for (int part = 0; part < 2; part++)
        for (int64_t first = 0; first < columns; first += TILE) {
            float around[9][TILE], *to = s->result + ((sample * 2 + part) * rows + row) * columns + first;
            for (int k = 0; k < 9; k++) {
                int64_t line = sample * f->rows + clamp(row + k / 3 - 1, f->rows);
                const float *from = (part ? f->y : f->x) + line * f->stride;
                for (int i = 0; i < TILE; i++) around[k][i] = from[clamp(first + i + k % 3 - 1, f->columns)];
            }
            for (int k = 0; k < 19; k++) sort(around[PAIRS[k][0]], around[PAIRS[k][1]]);
            memcpy(to, around[4], (columns - first < TILE ? columns - first : TILE) * sizeof *to);
        }
}

static void *take(void **memory, int64_t floats) {
    while (*memory) memory++;
    return *memory = malloc(floats * sizeof(float));
}

static int make_picture(picture *p, void **memory, int64_t batch, int64_t height, int64_t width, int64_t margin) {
    *p = (picture){.height = height, .width = width, .margin = margin, .stride = width + 2 * margin + SLACK};
    p->size = (height + 2 * margin) * p->stride;
    p->origin = take(memory, batch * p->size);
    if (p->origin) p->origin += margin * p->stride + margin;
    return p->origin != NULL;
}

/* Floats of a field with positions `side` pixels apart. */
static int64_t positions(const search *s, int64_t side) {
    const picture *p = &s->pyramid[0][0];
    return s->batch * (p->height / side) * ((p->width / side + TILE - 1) / TILE * TILE);
}

/* Turns to blocks of `block` pixels at `level`: the field so far is carried over. */
static void set_step(search *s, int level, int block, int threads) {
    const int64_t side = (int64_t)block << level, before = (int64_t)s->block << s->level;
    const field old = s->flow;
    s->spread = (int)(before / side), s->factor = (float)(1 << (s->level - level));
    s->level = level, s->block = block;
    s->change_price = s->change * (1 << level), s->longest = s->longest_change / (1 << level);
    s->flow = s->before, s->before = old;
    s->flow.rows = s->pyramid[0][0].height / side, s->flow.columns = s->pyramid[0][0].width / side;
    s->flow.stride = (s->flow.columns + TILE - 1) / TILE * TILE;
    if (old.rows) for_rows(s, enlarge, s->flow.rows, threads);
}

/* The next step reads the field as `before` and writes it anew. */
static void keep_field(search *s) {
    float *x = s->before.x, *y = s->before.y;
    s->before = s->flow, s->flow.x = x, s->flow.y = y;
}

static void choose(search *s, row_work *try, int choices, int threads) {
    s->choices = choices;
    for_rows(s, try, s->flow.rows, threads);
    for (s->turn = 0; s->turn < 4; s->turn++) {
        keep_field(s);
        for_rows(s, settle, s->flow.rows, threads);
    }
}

static void run(search *s, int halvings, int threads) {
    for_rows(s, luma, s->pyramid[0][0].height, threads);
    for (s->level = 1; s->level <= halvings; s->level++) for_rows(s, pool, s->pyramid[0][s->level].height, threads);
    set_step(s, halvings, COARSE_BLOCK, threads);
    s->shared = 1;
    for (int64_t i = 0; i < SIDE * SIDE * s->flow.stride; i++) {
        s->choice_x[i] = (float)(i / s->flow.stride % SIDE - COARSE_REACH);
        s->choice_y[i] = (float)(i / s->flow.stride / SIDE - COARSE_REACH);
    }
    choose(s, try_all, SIDE * SIDE, threads);
    s->shared = 0;
    for (int level = halvings - 1; level >= 0; level--) {
        set_step(s, level, level > 1 ? COARSE_BLOCK : BLOCK >> level, threads);
        s->radius = level ? 2 : 1;
        choose(s, level ? try_near_window_12 : try_near_window_16, level ? 30 : 14, threads);
        s->radius = 1;
        choose(s, level ? try_near_window_12 : try_near_window_16, 14, threads);
    }
    set_step(s, 0, CELL, threads);
    s->radius = 0;
    choose(s, try_near_window_12, 6, threads);
    for (int pass = 0; pass < 3; pass++) {
        for_rows(s, warp, s->warped.height, threads);
        for_rows(s, multiply, s->flow.rows, threads);
        keep_field(s);
        for_rows(s, shift, s->flow.rows, threads);
    }
    for_rows(s, median, s->height / CELL, threads);
}

/* Returns 0, or -1 where memory is lacking. shape: batch, height, width; strides: of x and of the reference, in floats;
 * prices: CHANGE_PRICE / BLOCK^2, FAR_PRICE, SHIFT_PRICE, LONGEST_CHANGE; lambda: the price of a squared difference of
 * 1 in each sample. */
PUBLIC int motion_search(const float *x, const float *reference, const int64_t *shape, const int64_t *x_strides,
                         const int64_t *reference_strides, const float *prices, const float *price, int halvings,
                         int threads, float *flow) {
    search s = {.input = {x, reference}, .strides = {x_strides, reference_strides}, .result = flow, .price = price,
                .batch = shape[0], .height = shape[1], .width = shape[2], .change = prices[0], .far = prices[1],
                .shift = prices[2], .longest_change = prices[3]};
    void *memory[2 * COARSEST + 16] = {NULL};
    const int64_t unit = COARSE_BLOCK << halvings; /* pictures have whole coarse blocks */
    const int64_t height = (s.height + unit - 1) / unit * unit, width = (s.width + unit - 1) / unit * unit;
    int complete = make_picture(&s.warped, memory, s.batch, height, width, 1);
    for (int level = halvings, reach = COARSE_REACH; level >= 0; level--, reach = 2 * reach + 3)
        for (int k = 0; k < 2; k++)
            complete &= make_picture(&s.pyramid[k][level], memory, s.batch, height >> level, width >> level,
                                     MARGIN + k * reach);
    const int64_t cells = positions(&s, CELL);
    const int64_t wanted[3] = {SIDE * SIDE * positions(&s, unit), 30 * positions(&s, BLOCK), 6 * cells};
    int64_t choices = 0;
    for (int i = 0; i < 3; i++) choices = wanted[i] > choices ? wanted[i] : choices;
    float **parts[] = {&s.flow.x, &s.flow.y, &s.before.x, &s.before.y, &s.choice_x, &s.choice_y, &s.cost, &s.products};
    for (int i = 0; i < 8; i++)
        complete &= (*parts[i] = take(memory, i < 4 ? cells : i < 7 ? choices : 5 * cells)) != NULL;
    if (complete) run(&s, halvings, threads);
    for (int i = 0; memory[i]; i++) free(memory[i]);
    return complete ? 0 : -1;
}

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_motion_search", "See motion_search.py.", -1, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__motion_search(void) { return PyModule_Create(&module); }
