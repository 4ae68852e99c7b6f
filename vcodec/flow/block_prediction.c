/* The prediction of a picture from blocks of references, and its gradient: block_prediction.py defines both.
 *
 * Pictures are float (channels, height, width). The functions are called through ctypes. */
#include <string.h>

#include "../entropy/block_field.h"
#include "portable.h"

enum { CELL = 8, TAPS = 8, REACH = 3, PATCH = CELL + TAPS - 1 };

typedef struct {
    int64_t top, left, height, width; /* in pixels, within one cell */
} area;

typedef struct {
    int mode;
    vector v[2];
} motion;

typedef struct {
    field f;
    int64_t height, width;
    const float *filters; /* (4, TAPS), for quarters of a pixel */
    const float *overlap; /* (CELL,): how much a neighbour's motion counts at each distance from the edge */
} geometry;

static motion motion_at(const field *f, int64_t row, int64_t column) {
    return (motion){plane(f, MODE)[row * f->columns + column],
                    {vector_at(f, f->cells, 0, row, column), vector_at(f, f->cells, 1, row, column)}};
}

static int alike(const motion *a, const motion *b) {
    return a->mode == b->mode && (a->mode == OLDER || same(a->v[0], b->v[0])) &&
           (a->mode == NEWEST || same(a->v[1], b->v[1]));
}

/* The patch of a reference that an area is made from. */
static const float *patch_of(const geometry *g, const float *from, area a, vector v, float *room, int64_t *stride) {
    const int64_t top = a.top + (v.y >> 2) - REACH, left = a.left + (v.x >> 2) - REACH;
    if (top >= 0 && left >= 0 && top + PATCH <= g->height && left + PATCH <= g->width) {
        *stride = g->width;
        return from + top * g->width + left;
    }
    *stride = PATCH;
    for (int64_t r = 0; r < PATCH; r++)
        for (int64_t c = 0; c < PATCH; c++)
            room[r * PATCH + c] = from[clamped(top + r, g->height) * g->width + clamped(left + c, g->width)];
    return room;
}

/* to[CELL * r + c] += share * the area of a reference as a vector brings it. */
CLONES static void fetch(const geometry *g, const float *from, area a, vector v, float share, float *to) {
    float room[PATCH * PATCH], across[PATCH][CELL];
    int64_t stride;
    const float *patch = patch_of(g, from, a, v, room, &stride);
    const float *x = g->filters + (v.x & 3) * TAPS, *y = g->filters + (v.y & 3) * TAPS;
    const int64_t first = v.y & 3 ? 0 : REACH, last = v.y & 3 ? PATCH : REACH + CELL;
    for (int64_t r = first; r < last; r++)
        for (int c = 0; c < CELL; c++) {
            float sum = 0;
            if (v.x & 3)
                for (int k = 0; k < TAPS; k++) sum += x[k] * patch[r * stride + c + k];
            else
                sum = patch[r * stride + c + REACH];
            across[r][c] = sum;
        }
    for (int r = 0; r < CELL; r++)
        for (int c = 0; c < CELL; c++) {
            float sum = 0;
            if (v.y & 3)
                for (int k = 0; k < TAPS; k++) sum += y[k] * across[r + k][c];
            else
                sum = across[r + REACH][c];
            to[CELL * r + c] += share * sum;
        }
}

/* The transpose of `fetch`: to += what the gradient of an area is with regard to the reference. */
static void spread(const geometry *g, float *to, area a, vector v, float share, const float *from) {
    float across[PATCH][CELL] = {{0}};
    const float *x = g->filters + (v.x & 3) * TAPS, *y = g->filters + (v.y & 3) * TAPS;
    const int64_t top = a.top + (v.y >> 2) - REACH, left = a.left + (v.x >> 2) - REACH;
    for (int r = 0; r < CELL; r++)
        for (int k = 0; k < TAPS; k++)
            for (int c = 0; c < CELL; c++) across[r + k][c] += share * y[k] * from[CELL * r + c];
    for (int r = 0; r < PATCH; r++) {
        float line[PATCH] = {0}, *into = to + clamped(top + r, g->height) * g->width;
        for (int k = 0; k < TAPS; k++)
            for (int c = 0; c < CELL; c++) line[c + k] += x[k] * across[r][c];
        for (int c = 0; c < PATCH; c++) into[clamped(left + c, g->width)] += line[c];
    }
}

typedef struct { /* the motions that make up a cell, and where each counts */
    motion motions[5];
    int count;
    float weights[5][CELL * CELL];
} mixture;

/* The cell's own motion, and where they differ those of its neighbours, each in the half beside it. */
static void mix(const geometry *g, int64_t row, int64_t column, mixture *m) {
    static const int steps[4][2] = {{0, -1}, {0, 1}, {-1, 0}, {1, 0}};
    const field *f = &g->f;
    m->count = 1;
    m->motions[0] = motion_at(f, row, column);
    for (int i = 0; i < CELL * CELL; i++) m->weights[0][i] = 1;
    for (int side = 0; side < 4; side++) {
        const int64_t r = row + steps[side][0], c = column + steps[side][1];
        if (r < 0 || c < 0 || r >= f->rows || c >= f->columns) continue;
        const motion other = motion_at(f, r, c);
        if (alike(&other, &m->motions[0])) continue;
        float *weights = m->weights[m->count];
        m->motions[m->count++] = other;
        for (int i = 0; i < CELL * CELL; i++) {
            const int along = side < 2 ? i % CELL : i / CELL; /* from the left, or from the top */
            weights[i] = (along < CELL / 2) == (side % 2 == 0) ? g->overlap[along] : 0;
            m->weights[0][i] -= weights[i];
        }
    }
}

static void predict_cell(const geometry *g, const mixture *m, const float *const *references, int64_t channels,
                         area a, float *prediction) {
    for (int64_t channel = 0; channel < channels; channel++) {
        const int64_t offset = channel * g->height * g->width;
        float result[CELL * CELL] = {0};
        for (int i = 0; i < m->count; i++) {
            float fetched[CELL * CELL] = {0};
            const motion *mo = &m->motions[i];
            for (int reference = 0; reference < 2; reference++)
                if (mo->mode == BOTH || mo->mode == (reference ? OLDER : NEWEST))
                    fetch(g, references[reference] + offset, a, mo->v[reference], mo->mode == BOTH ? 0.5f : 1, fetched);
            for (int p = 0; p < CELL * CELL; p++) result[p] += m->weights[i][p] * fetched[p];
        }
        for (int64_t r = 0; r < a.height; r++)
            memcpy(prediction + offset + (a.top + r) * g->width + a.left, result + CELL * r,
                   (size_t)a.width * sizeof(float));
    }
}

static void spread_cell(const geometry *g, const mixture *m, float *const *gradients, int64_t channel, area a,
                        const float *gradient) {
    const int64_t offset = channel * g->height * g->width;
    for (int i = 0; i < m->count; i++) {
        float weighted[CELL * CELL] = {0};
        const motion *mo = &m->motions[i];
        for (int64_t r = 0; r < a.height; r++)
            for (int64_t c = 0; c < a.width; c++)
                weighted[CELL * r + c] =
                    m->weights[i][CELL * r + c] * gradient[offset + (a.top + r) * g->width + a.left + c];
        for (int reference = 0; reference < 2; reference++)
            if (gradients[reference] && (mo->mode == BOTH || mo->mode == (reference ? OLDER : NEWEST)))
                spread(g, gradients[reference] + offset, a, mo->v[reference], mo->mode == BOTH ? 0.5f : 1, weighted);
    }
}

static area area_of(const geometry *g, int64_t row, int64_t column) {
    const int64_t top = CELL * row, left = CELL * column;
    const int64_t height = g->height - top, width = g->width - left; /* the last cells may be cut, or lie outside */
    return (area){top, left, height < CELL ? height : CELL, width < CELL ? width : CELL};
}

/* prediction (channels, height, width) from the references and a field (6, rows, columns); older may be null. */
PUBLIC void block_prediction(const float *newest, const float *older, int16_t *cells, int64_t channels, int64_t height,
                             int64_t width, int64_t rows, int64_t columns, const float *filters, const float *overlap,
                             int threads, float *prediction) {
    const geometry g = {{cells, 0, 0, 0, rows, columns}, height, width, filters, overlap};
    const float *references[2] = {newest, older ? older : newest};
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
#endif
    for (int64_t row = 0; row < (height + CELL - 1) / CELL; row++)
        for (int64_t column = 0; column < (width + CELL - 1) / CELL; column++) {
            mixture m;
            mix(&g, row, column, &m);
            predict_cell(&g, &m, references, channels, area_of(&g, row, column), prediction);
        }
    (void)threads;
}

/* Adds to the references' gradients, of which each may be null. */
PUBLIC void block_prediction_backward(const float *gradient, int16_t *cells, int64_t channels, int64_t height,
                                      int64_t width, int64_t rows, int64_t columns, const float *filters,
                                      const float *overlap, int threads, float *newest, float *older) {
    const geometry g = {{cells, 0, 0, 0, rows, columns}, height, width, filters, overlap};
    float *const gradients[2] = {newest, older};
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
    for (int64_t channel = 0; channel < channels; channel++)
        for (int64_t row = 0; row < (height + CELL - 1) / CELL; row++)
            for (int64_t column = 0; column < (width + CELL - 1) / CELL; column++) {
                mixture m;
                mix(&g, row, column, &m);
                spread_cell(&g, &m, gradients, channel, area_of(&g, row, column), gradient);
            }
    (void)threads;
}
