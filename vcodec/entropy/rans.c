/* Range asymmetric numeral systems (Duda 2013) over tables of 16-bit frequencies.
 *
 * State: 32 bits, normalised to [2^23, 2^31), renewed byte by byte. The encoder starts from state 0 and walks the
 * symbols backwards; it writes its bytes from the end of the buffer towards the front. The decoder loads the state
 * with its ordinary renewal, so there is no separate header: a frame whose symbols are all certain costs no byte.
 *
 * A table row r is cdf[row_start[r]] .. cdf[row_start[r + 1] - 1], rising from 0 to 65536. Entry k stands for the
 * symbol minimum[r] + k, the last one for "outside": the value then follows as an Elias gamma code of plain bits.
 *
 * rans_python.py holds the same coder in Python, and the tests hold both to the same bytes.
 */
#include "rans.h"

static void put_bit(coder *c, uint8_t *buffer, uint32_t bit) { put(c, buffer, bit << 15, 1u << 15); }

static uint32_t get_bit(coder *c, const uint8_t *buffer, int64_t size) {
    uint32_t bit = (c->state & 0xffff) >> 15;
    advance(c, buffer, size, bit << 15, 1u << 15);
    return bit;
}

/* A value outside the row as an unsigned number >= 1: even below the row, odd above it. */
static uint64_t fold(int64_t value, int64_t minimum, int64_t count) {
    return value < minimum ? 2 * (uint64_t)(minimum - value) : 2 * (uint64_t)(value - minimum - count) + 1;
}

static void put_outside(coder *c, uint8_t *buffer, uint64_t number) {
    int length = 0;
    while (number >> (length + 1)) length++;
    for (int k = 0; k < length; k++) put_bit(c, buffer, (uint32_t)(number >> k) & 1);
    put_bit(c, buffer, 1);
    for (int k = 0; k < length; k++) put_bit(c, buffer, 0);
}

static int get_outside(coder *c, const uint8_t *buffer, int64_t size, uint64_t *number) {
    int length = 0;
    while (!get_bit(c, buffer, size))
        if (++length > 33) return -1;
    *number = 1;
    for (int k = 0; k < length; k++) *number = *number << 1 | get_bit(c, buffer, size);
    return 0;
}

/* Codes `count` symbols, the last one first; the buffer has room for 12 bytes a symbol. */
PUBLIC void rans_encode(uint32_t *state, int64_t *position, uint8_t *buffer, const int32_t *symbols,
                        const int32_t *rows, int64_t count, const uint32_t *cdf, const int32_t *row_start,
                       const int32_t *minimum) {
    coder c = {*state, *position};
    for (int64_t i = count - 1; i >= 0; i--) {
        const uint32_t *row = cdf + row_start[rows[i]];
        int64_t inside = row_start[rows[i] + 1] - row_start[rows[i]] - 2;
        int64_t k = (int64_t)symbols[i] - minimum[rows[i]];
        if (k < 0 || k >= inside) {
            put_outside(&c, buffer, fold(symbols[i], minimum[rows[i]], inside));
            k = inside;
        }
        put(&c, buffer, row[k], row[k + 1] - row[k]);
    }
    *state = c.state;
    *position = c.position;
}

/* Codes bits, the last one first, each with the probability of a one; the buffer has room for 3 bytes a bit. */
PUBLIC void rans_write(uint32_t *state, int64_t *position, uint8_t *buffer, const uint16_t *probabilities,
                       const uint8_t *bits, int64_t count) {
    coder c = {*state, *position};
    for (int64_t i = count - 1; i >= 0; i--) {
        uint32_t one = probabilities[i];
        put(&c, buffer, bits[i] ? 0 : one, bits[i] ? one : 65536 - one);
    }
    *state = c.state;
    *position = c.position;
}

/* Reads `count` symbols. Returns 0, or -1 when the bytes can't have come from the encoder. */
PUBLIC int rans_decode(uint32_t *state, int64_t *position, const uint8_t *buffer, int64_t size, int32_t *symbols,
                       const int32_t *rows, int64_t count, const uint32_t *cdf, const int32_t *row_start,
                       const int32_t *minimum) {
    coder c = {*state, *position};
    renew(&c, buffer, size);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t *row = cdf + row_start[rows[i]];
        int64_t inside = row_start[rows[i] + 1] - row_start[rows[i]] - 2;
        uint32_t slot = c.state & 0xffff;
        int64_t low = 0, high = inside + 1; /* row[low] <= slot < row[high] */
        while (high - low > 1) {
            int64_t middle = (low + high) / 2;
            if (row[middle] <= slot) low = middle; else high = middle;
        }
        advance(&c, buffer, size, row[low], row[low + 1] - row[low]);
        int64_t value = minimum[rows[i]] + low;
        if (low == inside) {
            uint64_t number;
            if (get_outside(&c, buffer, size, &number)) return -1;
            value = number & 1 ? minimum[rows[i]] + inside + (int64_t)(number >> 1)
                               : minimum[rows[i]] - (int64_t)(number >> 1);
            if (value > INT32_MAX || value < INT32_MIN) return -1;
        }
        symbols[i] = (int32_t)value;
    }
    *state = c.state;
    *position = c.position;
    return 0;
}

/* The functions are called through ctypes; this only makes the library a module that setuptools can build. */
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rans", "See vcodec/entropy/rans.py.", -1, 0};
PyMODINIT_FUNC PyInit__rans(void) { return PyModule_Create(&module); }
