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

#include "portable.h"

#define ROW CLONES static
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
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
    const float *price; /* of each sample, in squared differences */
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

#include "block_matching.h"
#include "lucas_kanade.h"

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

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_motion_search", "See motion_search.py.", -1,
                             NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__motion_search(void) { return PyModule_Create(&module); }
