/* The field of block motion: its layout, and what its coder and the encoder's search both know of it.
 *
 * A field is int16 (6, rows, columns), one column for each cell of 8x8 pixels, rows and columns being even: SPLIT,
 * whether the square of 2x2 cells is cut into its cells; MODE, which reference pictures the block is predicted from;
 * and a vector in quarters of a pixel into each of the two, X0, Y0, X1, Y1, the one that is not used included.
 */
#ifndef VCODEC_BLOCK_FIELD_H
#define VCODEC_BLOCK_FIELD_H

#include <stdint.h>
#include <stdlib.h>

enum { SPLIT, MODE, X0, Y0, X1, Y1, PLANES };
enum { NEWEST, OLDER, BOTH };
#define LONGEST 2047 /* quarters of a pixel along one axis */
#define CANDIDATES 7

typedef struct { int32_t x, y; } vector;

typedef struct {
    int16_t *cells;
    const int16_t *previous; /* the field of the frame before, or null */
    uint8_t *known;          /* cells that are coded already */
    uint8_t *fresh;          /* bit r: the vector into reference r was not its first candidate */
    int64_t rows, columns;
} field;

static inline int16_t *plane(const field *f, int which) { return f->cells + which * f->rows * f->columns; }

static inline int is_known(const field *f, int64_t row, int64_t column) {
    return row >= 0 && column >= 0 && row < f->rows && column < f->columns && f->known[row * f->columns + column];
}

static inline vector vector_at(const field *f, const int16_t *cells, int reference, int64_t row, int64_t column) {
    const int64_t size = f->rows * f->columns, at = row * f->columns + column;
    return (vector){cells[(X0 + 2 * reference) * size + at], cells[(Y0 + 2 * reference) * size + at]};
}

/* An index that lies within 0 to size - 1: beyond a border, what is at it. */
static inline int64_t clamped(int64_t index, int64_t size) { return index < 0 ? 0 : index >= size ? size - 1 : index; }

static inline int same(vector a, vector b) { return a.x == b.x && a.y == b.y; }
static inline int32_t within(int32_t value) { return value < -LONGEST ? -LONGEST : value > LONGEST ? LONGEST : value; }
static inline vector doubled(vector v) { return (vector){within(2 * v.x), within(2 * v.y)}; }
static inline vector halved(vector v) { return (vector){v.x / 2, v.y / 2}; } /* towards zero */

static inline int32_t median(int32_t a, int32_t b, int32_t c) {
    const int32_t low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

static inline int added(vector *list, int count, vector v) {
    for (int i = 0; i < count; i++)
        if (same(list[i], v)) return count;
    list[count] = v;
    return count + 1;
}

/* Guesses of a block's vector, the likeliest first, none twice: the median of the vectors to the left, above, and above
 * to the right (or left); of a block of both references, twice the newest's vector; these vectors; that of the place in
 * the frame before; none. spread: how far the first two are apart. Returns their number.
 * side: of the block, in cells; newest: the vector into the newest reference, null unless the block has both. */
static inline int candidates(const field *f, int reference, int64_t row, int64_t column, int64_t side,
                             const vector *newest, vector *list, int32_t *spread) {
    const int64_t places[4][2] = {{row, column - 1}, {row - 1, column}, {row - 1, column + side}, {row - 1, column - 1}};
    vector around[3] = {{0, 0}, {0, 0}, {0, 0}};
    int there[3], count = 0;
    for (int i = 0; i < 3; i++) {
        const int64_t *place = places[i];
        if (i == 2 && !is_known(f, place[0], place[1])) place = places[3];
        there[i] = is_known(f, place[0], place[1]);
        if (there[i]) around[i] = vector_at(f, f->cells, reference, place[0], place[1]);
    }
    const int known = there[0] + there[1] + there[2];
    vector first = {median(around[0].x, around[1].x, around[2].x), median(around[0].y, around[1].y, around[2].y)};
    if (known == 1) first = around[there[0] ? 0 : there[1] ? 1 : 2];
    count = added(list, count, first);
    if (newest) count = added(list, count, doubled(*newest));
    for (int i = 0; i < 3; i++)
        if (there[i]) count = added(list, count, around[i]);
    if (f->previous) count = added(list, count, vector_at(f, f->previous, reference, row, column));
    count = added(list, count, (vector){0, 0});
    *spread = there[0] && there[1] ? abs(around[0].x - around[1].x) + abs(around[0].y - around[1].y) : 0;
    return count;
}

/* Fills the cells of a block. fresh: see `field`. */
static inline void settle(field *f, int64_t row, int64_t column, int64_t side, int split, int mode, vector newest,
                          vector older, int fresh) {
    if (mode == NEWEST) older = doubled(newest);
    if (mode == OLDER) newest = halved(older);
    const int16_t values[PLANES] = {(int16_t)split, (int16_t)mode, (int16_t)newest.x, (int16_t)newest.y,
                                    (int16_t)older.x, (int16_t)older.y};
    for (int64_t r = row; r < row + side; r++)
        for (int64_t c = column; c < column + side; c++) {
            for (int which = 0; which < PLANES; which++) plane(f, which)[r * f->columns + c] = values[which];
            f->known[r * f->columns + c] = 1;
            f->fresh[r * f->columns + c] = (uint8_t)fresh;
        }
}

#endif
