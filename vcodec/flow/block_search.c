/* The encoder's choice of a field of block motion, as block_search.py describes it; read that first.
 *
 * Pictures are luma in 16ths of a step of 8 bits. References are interpolated at all quarters of a pixel beforehand,
 * so that trying a vector only compares. The functions are called through ctypes.
 */
#include <math.h>

#include "../entropy/block_field.h"
#include "portable.h"

enum { FIRST, LISTED, EACH, NEW, DIFFERENCE, DOUBLING, NO_DIFFERENCE, WHOLE, CUT }; /* prices, see block_search.py */
enum { MARGIN = 16, TAPS = 8, BESIDE = 3, STEPS = 5, LARGE = 16, SMALL = 8 };
#define FINE 16 /* to a step of 8 bits */

typedef struct { /* of one reference: interpolated[4 * y + x] is moved by x and y quarters of a pixel */
    const int16_t *interpolated;
    int64_t height, width; /* with a margin at each side */
} picture;

typedef struct {
    field f;
    const int16_t *current, *hints; /* (height, width); (references, 2, rows, columns), quarters of a pixel */
    int64_t height, width;
    picture references[2];
    int two;
    float samples, scale; /* of `bits_of_error` */
    const float *prices;  /* see block_search.py */
    float modes[3];       /* bits of each mode */
    float counts[3];
} search;

typedef struct {
    float cost;
    vector v;
} choice;

typedef struct {
    int mode;
    vector v[2];
    float cost;
} block;

/* The taps for quarters of a pixel of HEVC's luma, in 64ths. */
static const int32_t FILTERS[4][TAPS] = {
    {0, 0, 0, 64, 0, 0, 0, 0}, {-1, 4, -10, 58, 17, -5, 1, 0}, {-1, 4, -11, 40, 40, -11, 4, -1}, {0, 1, -5, 17, 58, -10, 4, -1},
};

CLONES static void filter_row(const int16_t *from, int64_t stride, const int32_t *taps, int64_t count, int16_t *to) {
    for (int64_t i = 0; i < count; i++) {
        int32_t sum = 32;
        for (int k = 0; k < TAPS; k++) sum += taps[k] * from[i + k * stride];
        to[i] = (int16_t)(sum >> 6);
    }
}

/* luma (height, width) to interpolated[16] (height + 2 MARGIN, width + 2 MARGIN). Returns 0, or -1 without memory. */
PUBLIC int block_search_interpolate(const int16_t *luma, int64_t height, int64_t width, int threads,
                                    int16_t *interpolated) {
    const int64_t rows = height + 2 * MARGIN, columns = width + 2 * MARGIN, wide = columns + TAPS - 1;
    const int64_t tall = rows + TAPS - 1;
    int16_t *padded = malloc((size_t)(tall * wide) * sizeof(int16_t));
    int16_t *across = malloc((size_t)(4 * tall * columns) * sizeof(int16_t));
    if (!padded || !across) {
        free(padded), free(across);
        return -1;
    }
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
    for (int64_t r = 0; r < tall; r++) {
        const int16_t *line = luma + clamped(r - MARGIN - 3, height) * width;
        for (int64_t c = 0; c < wide; c++) padded[r * wide + c] = line[clamped(c - MARGIN - 3, width)];
        for (int x = 0; x < 4; x++)
            filter_row(padded + r * wide, 1, FILTERS[x], columns, across + (x * tall + r) * columns);
    }
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) if (threads > 1)
#endif
    for (int64_t r = 0; r < rows; r++)
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++)
                filter_row(across + (x * tall + r) * columns, columns, FILTERS[y], columns,
                           interpolated + ((4 * y + x) * rows + r) * columns);
    free(padded), free(across);
    (void)threads;
    return 0;
}

/* A row of a block as the vector v brings it; `room` where it lies partly beyond the margin. */
static const int16_t *moved_row(const picture *p, vector v, int64_t row, int64_t column, int64_t count, int16_t *room) {
    const int16_t *at = p->interpolated + (4 * (v.y & 3) + (v.x & 3)) * p->height * p->width;
    at += clamped(row + (v.y >> 2) + MARGIN, p->height) * p->width;
    const int64_t first = column + (v.x >> 2) + MARGIN;
    if (first >= 0 && first + count <= p->width) return at + first;
    for (int64_t i = 0; i < count; i++) room[i] = at[clamped(first + i, p->width)];
    return room;
}

CLONES static int32_t row_error(const int16_t *current, const int16_t *moved, int64_t count) {
    int32_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const int32_t difference = current[i] - moved[i];
        sum += difference * difference;
    }
    return sum;
}

CLONES static int32_t row_error_of_both(const int16_t *current, const int16_t *a, const int16_t *b, int64_t count) {
    int32_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const int32_t difference = current[i] - ((a[i] + b[i]) >> 1);
        sum += difference * difference;
    }
    return sum;
}

/* The squared error of a block, or more than `hopeless` as soon as that is sure; other: null for one reference. */
static float block_error(const search *s, int64_t top, int64_t left, int64_t side, int reference, vector v,
                         const vector *other, float hopeless) {
    int16_t room[LARGE], second_room[LARGE];
    const int64_t height = s->height - top < side ? s->height - top : side;
    const int64_t width = s->width - left < side ? s->width - left : side;
    float error = 0;
    for (int64_t i = 0; i < height && error < hopeless; i++) {
        const int16_t *current = s->current + (top + i) * s->width + left;
        const int16_t *moved = moved_row(&s->references[reference], v, top + i, left, width, room);
        if (other)
            error += (float)row_error_of_both(
                current, moved, moved_row(&s->references[!reference], *other, top + i, left, width, second_room), width);
        else
            error += (float)row_error(current, moved, width);
    }
    return error;
}

static float difference_bits(const search *s, int32_t value) {
    return value ? s->prices[DIFFERENCE] + s->prices[DOUBLING] * log2f((float)abs(value)) : s->prices[NO_DIFFERENCE];
}

static float vector_bits(const search *s, const vector *list, int count, vector v) {
    for (int i = 0; i < count; i++)
        if (same(list[i], v)) return i ? s->prices[LISTED] + s->prices[EACH] * (float)i : s->prices[FIRST];
    return s->prices[NEW] + difference_bits(s, v.x - list[0].x) + difference_bits(s, v.y - list[0].y);
}

typedef struct { /* one block whose vector into one reference is looked for */
    const search *s;
    int64_t row, column, cells;
    int reference;
    const vector *other; /* the block's vector into the other reference, where it has both */
    vector list[CANDIDATES];
    int count;
    float before; /* bits that are spent already */
} hunt;

static void try(const hunt *h, vector v, choice *best) {
    if (v.x != within(v.x) || v.y != within(v.y) || (best->cost < INFINITY && same(v, best->v))) return;
    const search *s = h->s;
    const float spent = h->before + vector_bits(s, h->list, h->count, v);
    if (spent >= best->cost) return;
    const float samples = 0.5f * s->samples * (float)(h->cells * h->cells);
    const float scale = s->scale / (float)(h->cells * h->cells);
    const float hopeless = (exp2f((best->cost - spent) / samples) - 1) / scale;
    const float error =
        block_error(s, SMALL * h->row, SMALL * h->column, SMALL * h->cells, h->reference, v, h->other, hopeless);
    if (error >= hopeless) return;
    const float cost = samples * log2f(1 + scale * error) + spent;
    if (cost < best->cost) *best = (choice){cost, v};
}

static hunt begin(const search *s, int64_t row, int64_t column, int64_t cells, int reference, const vector *newest) {
    hunt h = {.s = s, .row = row, .column = column, .cells = cells, .reference = reference};
    int32_t spread;
    h.count = candidates(&s->f, reference, row, column, cells, newest, h.list, &spread);
    return h;
}

static void try_square(const hunt *h, int32_t step, choice *best) {
    const vector centre = best->v;
    for (int32_t y = -step; y <= step; y += step)
        for (int32_t x = -step; x <= step; x += step) try(h, (vector){centre.x + x, centre.y + y}, best);
}

static void try_hints(const hunt *h, choice *best) {
    const search *s = h->s;
    const int64_t size = s->f.rows * s->f.columns;
    for (int distance = 0; distance <= BESIDE; distance += distance ? distance : 1)
        for (int down = -1; down <= 1; down++)
            for (int right = -1; right <= 1; right++) {
                if (!distance && (down || right)) continue;
                const int64_t r = clamped(h->row + down * distance, s->f.rows);
                const int64_t at = r * s->f.columns + clamped(h->column + right * distance, s->f.columns);
                const int16_t *hints = s->hints + 2 * size * h->reference;
                try(h, (vector){hints[at], hints[size + at]}, best);
            }
}

/* The best vector into one reference. guess: another block's, or null. */
static choice hunt_for(const hunt *h, const vector *guess) {
    static const int32_t steps[STEPS] = {8, 4, 4, 2, 1};
    choice best = {INFINITY, {0, 0}};
    for (int i = 0; i < h->count; i++) try(h, h->list[i], &best);
    if (guess) try(h, *guess, &best);
    try_hints(h, &best);
    for (int i = 0; i < STEPS; i++) try_square(h, steps[i], &best);
    return best;
}

/* Both references at once: the best two alone, then each moved a little. */
static void try_both(const search *s, int64_t row, int64_t column, int64_t cells, const choice *alone, block *best) {
    vector v[2] = {alone[0].v, alone[1].v};
    float cost = INFINITY;
    for (int turn = 0; turn < 2; turn++) {
        hunt h = begin(s, row, column, cells, 1, &v[0]), first = begin(s, row, column, cells, 0, 0);
        h.other = &v[0];
        h.before = s->modes[BOTH] + vector_bits(s, first.list, first.count, v[0]);
        choice older = {INFINITY, v[1]};
        try(&h, v[1], &older);
        for (int i = 0; i < h.count; i++) try(&h, h.list[i], &older);
        try_square(&h, 2, &older), try_square(&h, 1, &older);
        v[1] = older.v, cost = older.cost;
        if (turn || cost > best->cost + 8) break;
        first.other = &v[1];
        first.before = s->modes[BOTH] + vector_bits(s, h.list, h.count, v[1]);
        choice newest = {INFINITY, v[0]};
        try(&first, v[0], &newest);
        try_square(&first, 1, &newest);
        if (same(newest.v, v[0])) break;
        v[0] = newest.v;
    }
    if (cost < best->cost) *best = (block){.mode = BOTH, .v = {v[0], v[1]}, .cost = cost};
}

static block best_block(const search *s, int64_t row, int64_t column, int64_t cells, const block *whole) {
    choice alone[2];
    block best = {.cost = INFINITY};
    for (int reference = 0; reference <= s->two; reference++) {
        const int mode = reference ? OLDER : NEWEST;
        hunt h = begin(s, row, column, cells, reference, 0);
        h.before = s->two ? s->modes[mode] : 0;
        alone[reference] = hunt_for(&h, whole ? &whole->v[reference] : 0);
        if (alone[reference].cost < best.cost) {
            best = (block){.mode = mode, .cost = alone[reference].cost};
            best.v[reference] = alone[reference].v;
        }
    }
    if (s->two) {
        if (best.mode == NEWEST) best.v[1] = alone[1].v; /* a guess for smaller blocks */
        if (best.mode == OLDER) best.v[0] = alone[0].v;
        try_both(s, row, column, cells, alone, &best);
    }
    return best;
}

static void put(search *s, int64_t row, int64_t column, int64_t cells, const block *b) {
    settle(&s->f, row, column, cells, cells == 1, b->mode, b->v[0], b->v[1], 0);
}

static void count_mode(search *s, int mode) {
    s->counts[mode] += 1;
    const float all = s->counts[0] + s->counts[1] + s->counts[2];
    for (int i = 0; i < 3; i++) s->modes[i] = log2f(all / s->counts[i]);
}

/* A square of 2x2 cells: whole, or cut where that is cheaper. */
static void choose(search *s, int64_t row, int64_t column) {
    block whole = best_block(s, row, column, 2, 0), parts[4];
    const block guess = whole;
    float cost = s->prices[CUT];
    whole.cost += s->prices[WHOLE];
    for (int i = 0; i < 4 && cost < whole.cost; i++) {
        parts[i] = best_block(s, row + i / 2, column + i % 2, 1, &guess);
        put(s, row + i / 2, column + i % 2, 1, &parts[i]);
        cost += parts[i].cost;
    }
    if (cost < whole.cost) {
        for (int i = 0; i < 4; i++) count_mode(s, parts[i].mode);
    } else {
        put(s, row, column, 2, &whole);
        count_mode(s, whole.mode);
    }
}

/* Returns 0, or -1 where memory is lacking. current: luma (height, width); references: `interpolated` of each, the
 * second null where there is none; hints: int16 (references, 2, rows, columns); previous: the field of the frame before, or null;
 * samples, scale: see `bits_of_error`; cells: the result (6, rows, columns). */
PUBLIC int block_search(const int16_t *current, const int16_t *newest, const int16_t *older, int64_t height,
                        int64_t width, const int16_t *hints, const int16_t *previous, float samples, float scale,
                        const float *prices, int16_t *cells) {
    const int64_t rows = 2 * ((height + 15) / 16), columns = 2 * ((width + 15) / 16);
    const int64_t tall = height + 2 * MARGIN, wide = width + 2 * MARGIN;
    search s = {
        .f = {cells, previous, 0, 0, rows, columns}, .current = current, .hints = hints, .height = height, .width = width,
        .references = {{newest, tall, wide}, {older, tall, wide}}, .two = older != 0, .samples = samples,
        .scale = scale / (FINE * FINE), .prices = prices, .counts = {6, 1, 2},
    };
    uint8_t *notes = calloc((size_t)(2 * rows * columns + 1), 1);
    if (!notes) return -1;
    s.f.known = notes, s.f.fresh = notes + rows * columns;
    count_mode(&s, NEWEST);
    for (int64_t row = 0; row < rows; row += 2)
        for (int64_t column = 0; column < columns; column += 2) choose(&s, row, column);
    free(notes);
    return 0;
}
