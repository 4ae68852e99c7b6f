/* The adaptive coding of a field of block motion (block_field.h) by context mixing (mixing.h).
 *
 * Squares of 16x16 pixels from left to right and from top to bottom: is it split into blocks of 8x8; and of each block
 * its mode and its vectors. A vector is its first candidate, or another one, or new: then its difference from the first.
 *
 * block_vectors_python.py holds the same in Python, and the tests hold both to the same bytes.
 */
#define CONTEXTS 4
#define ENTRIES 256
#include "block_field.h"
#include "mixing.h"

enum { CUT, OTHER, MIXED, FRESH, NEW, WHICH, MOVED, NEGATIVE, LONGER, UPPER, KINDS };
#define LENGTHS 12 /* doublings of a difference */

typedef struct {
    learnt *statistics; /* of each kind */
    channel *io;
    field f;
    const int16_t *source; /* what is to be coded; null when reading */
    int two;               /* whether there is an older reference */
} coding;

static int settled(coding *k, int kind, const int32_t *contexts, int count, int32_t row, int bit) {
    return decide(&k->statistics[kind], k->io, contexts, count, row, bit);
}

static int32_t rough(int32_t count) {
    return count < 1 ? 0 : count < 2 ? 1 : count < 4 ? 2 : count < 8 ? 3 : count < 16 ? 4 : count < 32 ? 5 : count < 64 ? 6 : 7;
}

static int32_t known_or(const coding *k, int which, int64_t row, int64_t column, int32_t otherwise) {
    return is_known(&k->f, row, column) ? plane(&k->f, which)[row * k->f.columns + column] : otherwise;
}

static int32_t before(const coding *k, int which, int64_t row, int64_t column, int32_t otherwise) {
    const int64_t size = k->f.rows * k->f.columns;
    return k->f.previous ? k->f.previous[which * size + row * k->f.columns + column] : otherwise;
}

static int32_t freshness(const coding *k, int reference, int64_t row, int64_t column) {
    return is_known(&k->f, row, column) ? k->f.fresh[row * k->f.columns + column] >> reference & 1 : 0;
}

static int code_split(coding *k, int64_t row, int64_t column, int split) {
    const int32_t left = known_or(k, SPLIT, row, column - 1, 0), above = known_or(k, SPLIT, row - 1, column, 0);
    const int32_t once = before(k, SPLIT, row, column, 2);
    const int32_t contexts[] = {left * 2 + above, (left + above) * 3 + once, once};
    return settled(k, CUT, contexts, 3, 13000, split);
}

static int code_mode(coding *k, int64_t row, int64_t column, int small, int mode) {
    const int32_t left = known_or(k, MODE, row, column - 1, 3), above = known_or(k, MODE, row - 1, column, 3);
    const int32_t once = before(k, MODE, row, column, 3);
    const int32_t contexts[] = {left * 4 + above, (small * 4 + left) * 4 + above, once, (left * 4 + above) * 4 + once};
    if (!settled(k, OTHER, contexts, 4, 20000, mode != NEWEST)) return NEWEST;
    return settled(k, MIXED, contexts, 4, 45000, mode == BOTH) ? BOTH : OLDER;
}

/* A difference along one axis. Returns 0, or -1 for one that no encoder writes. */
static int code_difference(coding *k, int reference, int axis, int small, int32_t spread, int32_t *other_moved,
                           int32_t *value) {
    const int32_t moved[] = {(reference * 2 + axis) * 2 + small, axis * 8 + spread, axis * 2 + *other_moved};
    *other_moved = settled(k, MOVED, moved, 3, 45000, *value != 0);
    if (!*other_moved) return *value = 0;
    const int32_t side[] = {reference * 2 + axis, axis};
    const int negative = settled(k, NEGATIVE, side, 2, 32768, *value < 0);
    const int32_t size = abs(*value);
    int length = 0;
    for (;; length++) {
        const int32_t longer[] = {axis * 16 + length, spread * 16 + length, small * 16 + length};
        if (!settled(k, LONGER, longer, 3, 32768, size >> length > 1)) break;
        if (length == LENGTHS) return -1;
    }
    int32_t coded = 1;
    for (int bit = length - 1; bit >= 0; bit--) {
        const int32_t upper[] = {axis * 16 + length, length};
        const int wanted = size >> bit & 1;
        coded = coded << 1 | (bit == length - 1 ? settled(k, UPPER, upper, 2, 32768, wanted)
                                                : decide_plainly(k->io, 32768, wanted));
    }
    *value = negative ? -coded : coded;
    return 0;
}

/* A vector. Returns whether it is not the first candidate, or -1 for one that no encoder writes. */
static int code_vector(coding *k, int reference, int64_t row, int64_t column, int64_t side, const vector *newest,
                       vector *v) {
    vector list[CANDIDATES];
    int32_t spread;
    const int count = candidates(&k->f, reference, row, column, side, newest, list, &spread), small = side == 1;
    spread = rough(spread);
    int chosen = 0;
    while (chosen < count && !same(list[chosen], *v)) chosen++;

    const int32_t around = freshness(k, reference, row, column - 1) + freshness(k, reference, row - 1, column);
    const int32_t fresh[] = {(reference * 2 + small) * 3 + around, ((newest != 0) * 2 + reference) * 8 + count,
                             (reference * 2 + small) * 8 + spread};
    if (!settled(k, FRESH, fresh, 3, 20000, chosen != 0)) { *v = list[0]; return 0; }
    const int32_t new[] = {(reference * 2 + small) * 8 + count, spread, around};
    if (settled(k, NEW, new, 3, 32768, chosen == count)) {
        int32_t x = v->x - list[0].x, y = v->y - list[0].y, moved = 0;
        if (code_difference(k, reference, 0, small, spread, &moved, &x)) return -1;
        if (code_difference(k, reference, 1, small, spread, &moved, &y)) return -1;
        *v = (vector){list[0].x + x, list[0].y + y};
        return v->x != within(v->x) || v->y != within(v->y) ? -1 : 1;
    }
    int which = 1;
    while (which < count - 1) {
        const int32_t contexts[] = {which * 8 + count, reference * 8 + which};
        if (!settled(k, WHICH, contexts, 2, 32768, chosen > which)) break;
        which++;
    }
    *v = list[which < count ? which : 0];
    return 1;
}

static int code_block(coding *k, int64_t row, int64_t column, int64_t side) {
    const field *f = &k->f;
    const int64_t at = row * f->columns + column, size = f->rows * f->columns;
    const int16_t *source = k->source;
    int mode = source ? source[MODE * size + at] : NEWEST, fresh = 0;
    vector v[2] = {{0, 0}, {0, 0}};
    if (source) v[0] = vector_at(f, source, 0, row, column), v[1] = vector_at(f, source, 1, row, column);
    mode = k->two ? code_mode(k, row, column, side == 1, mode) : NEWEST;
    for (int reference = 0; reference < 2; reference++) {
        if (mode == (reference ? NEWEST : OLDER)) continue;
        const vector *newest = reference && mode == BOTH ? &v[0] : 0;
        const int is_fresh = code_vector(k, reference, row, column, side, newest, &v[reference]);
        if (is_fresh < 0) return -1;
        fresh |= is_fresh << reference;
    }
    settle(&k->f, row, column, side, side == 1, mode, v[0], v[1], fresh);
    return 0;
}

static int code_field(coding *k) {
    const int64_t size = k->f.rows * k->f.columns;
    uint8_t *notes = calloc((size_t)(2 * size + 1), 1);
    if (!notes) return -2;
    k->f.known = notes, k->f.fresh = notes + size;
    int result = 0;
    for (int64_t row = 0; row < k->f.rows && !result; row += 2)
        for (int64_t column = 0; column < k->f.columns && !result; column += 2) {
            const int split = code_split(k, row, column, k->source ? k->source[row * k->f.columns + column] : 0);
            if (!split) result = code_block(k, row, column, 2);
            for (int i = 0; i < 4 && split && !result; i++) result = code_block(k, row + i / 2, column + i % 2, 1);
        }
    free(notes);
    return result;
}

PUBLIC int64_t block_vectors_size(void) { return KINDS * (int64_t)sizeof(learnt); }

PUBLIC void block_vectors_prepare(void) { make_tables(); }

PUBLIC void block_vectors_start(learnt *statistics) { start(statistics, KINDS); }

/* The decisions that code a field: their number, and their probabilities and bits for rans_write; -1 for a field that no
 * encoder writes, -2 where memory is lacking. cells: room for the field as a decoder will know it. */
PUBLIC int64_t block_vectors_encode(learnt *statistics, uint16_t *probabilities, uint8_t *bits, const int16_t *source,
                                    int16_t *cells, const int16_t *previous, int two, int64_t rows, int64_t columns) {
    channel io = writer(probabilities, bits);
    coding k = {statistics, &io, {cells, previous, 0, 0, rows, columns}, source, two};
    const int result = code_field(&k);
    return result ? result : io.count;
}

/* Reads a field. Returns 0, or -1 when the bytes can't have come from the encoder, -2 where memory is lacking. */
PUBLIC int block_vectors_decode(learnt *statistics, uint32_t *state, int64_t *position, const uint8_t *data,
                                int64_t size, int16_t *cells, const int16_t *previous, int two, int64_t rows,
                                int64_t columns) {
    channel io = reader(*state, *position, data, size);
    coding k = {statistics, &io, {cells, previous, 0, 0, rows, columns}, 0, two};
    const int result = code_field(&k);
    *state = io.rans.state;
    *position = io.rans.position;
    return result;
}
