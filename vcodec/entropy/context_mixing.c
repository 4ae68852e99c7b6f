/* Adaptive context mixing (Mahoney 2005, "Adaptive weighing of context models for lossless data compression").
 *
 * A symbol is coded as decisions: is it zero; its sign; is it larger than 1, than 2, ... The row of the symbol's table
 * (what the networks predict) gives each decision a probability. So do some contexts, each a table of probabilities
 * that follow what was coded: which channel it is, how large the neighbours in space are, those in the channels
 * before and those in the frame before. All are mixed, as logits, with weights that follow what was coded too.
 *
 * Everything is integers, so every machine does the same. context_mixing_python.py holds the same in Python, and the
 * tests hold both to the same bytes. Arrays of a map are (H, W, C): the channels of a place lie together.
 */
#include <stdlib.h>
#include <string.h>
#include "rans.h"

enum { ZERO, SIGN, MORE, KINDS };
#define CONTEXTS 7      /* of a decision, at most */
#define ENTRIES 4096    /* of a context's table */
#define LOGIT_ONE 256   /* logits are in 256ths, from -2047 to 2047 */
#define CERTAIN 255     /* visits after which a probability follows no more slowly */
#define LEARNING_RATE 16
#define HEAVIEST (1 << 22)
#define LARGEST 15      /* of the magnitudes that are coded by decisions; beyond, an Elias gamma code of plain bits */

typedef struct { uint16_t probability, visits; } entry;

typedef struct {
    entry contexts[KINDS][CONTEXTS][ENTRIES];
    int32_t weights[KINDS][CONTEXTS + 2]; /* in 65536ths; the last two of the row's probability and of one */
} statistics;

typedef struct { /* where decisions go to or come from */
    int writing;
    uint16_t *probabilities; /* of a one, in 65536ths */
    uint8_t *bits;
    int64_t count;
    coder rans;
    const uint8_t *data;
    int64_t size;
} channel;

typedef struct {
    const int32_t *source;              /* what is to be coded; null when reading */
    int32_t *symbols;                   /* what is known of them; zero elsewhere */
    const int32_t *previous, *rows;     /* of the frame before, or null; the table row of each symbol */
    const uint8_t *levels, *coded;      /* which of the weights to take; whether the symbol is coded now */
    int64_t channels, height, width;
    const uint32_t *cdf;
    const int32_t *row_start, *minimum;
    int32_t *counts; /* of the symbols at each place that are known and not zero */
} map;

static const int32_t SIGMOID[33] = {22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743,
    32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};

static int32_t probability_of(int32_t logit) {
    if (logit > 2047) logit = 2047;
    if (logit < -2047) logit = -2047;
    int32_t position = logit + 2048, part = position & 127;
    return SIGMOID[position >> 7] + ((SIGMOID[(position >> 7) + 1] - SIGMOID[position >> 7]) * part >> 7);
}

static int16_t logits[4096]; /* of the probabilities of 12 bits: the inverse of the above */

static void make_logits(void) {
    int32_t logit = -2047;
    for (int32_t p = 0; p < 4096; p++) {
        while (logit < 2047 && probability_of(logit) < 16 * p + 8) logit++;
        logits[p] = (int16_t)logit;
    }
}

static int32_t logit_of(int32_t probability) { return logits[probability >> 4]; }

static int decide_plainly(channel *c, uint32_t probability, int bit) {
    if (c->writing) {
        c->probabilities[c->count] = (uint16_t)probability;
        c->bits[c->count++] = (uint8_t)bit;
        return bit;
    }
    bit = (c->rans.state & 0xffff) < probability;
    advance(&c->rans, c->data, c->size, bit ? 0 : probability, bit ? probability : 65536 - probability);
    return bit;
}

/* One decision: mixes, codes, learns. row: the probability of a one by the symbol's table. */
static int decide(statistics *s, channel *c, int kind, const int32_t *contexts, int count, int32_t row, int bit) {
    entry *found[CONTEXTS];
    int32_t inputs[CONTEXTS + 2], *weights = s->weights[kind], from_row = logit_of(row);
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        found[i] = &s->contexts[kind][i][contexts[i] % ENTRIES];
        if (!found[i]->visits) found[i]->probability = (uint16_t)row;
        inputs[i] = logit_of(found[i]->probability);
        sum += (int64_t)weights[i] * inputs[i];
    }
    inputs[CONTEXTS] = from_row;
    inputs[CONTEXTS + 1] = LOGIT_ONE / 4;
    sum += (int64_t)weights[CONTEXTS] * inputs[CONTEXTS] + (int64_t)weights[CONTEXTS + 1] * inputs[CONTEXTS + 1];
    sum >>= 16;
    int32_t probability = probability_of(sum > 2047 ? 2047 : sum < -2047 ? -2047 : (int32_t)sum);
    bit = decide_plainly(c, (uint32_t)probability, bit);

    int64_t error = (bit << 16) - probability;
    for (int i = 0; i < CONTEXTS + 2; i++) {
        if (i == count) i = CONTEXTS;
        int32_t moved = weights[i] + (int32_t)((inputs[i] * error + (1 << (LEARNING_RATE - 1))) >> LEARNING_RATE);
        weights[i] = moved < -HEAVIEST ? -HEAVIEST : moved > HEAVIEST ? HEAVIEST : moved;
    }
    for (int i = 0; i < count; i++) {
        int32_t step = 131072 / (2 * found[i]->visits + 3);
        int32_t moved = found[i]->probability + (((bit ? 65535 : 0) - found[i]->probability) * (int64_t)step >> 16);
        found[i]->probability = (uint16_t)(moved < 16 ? 16 : moved > 65519 ? 65519 : moved);
        if (found[i]->visits < CERTAIN) found[i]->visits++;
    }
    return bit;
}

/* The row's probability of part / whole, both being frequencies. */
static int32_t share(uint32_t part, uint32_t whole) {
    uint32_t p = whole ? (uint32_t)(((uint64_t)part << 16) / whole) : 32768;
    return p < 32 ? 32 : p > 65504 ? 65504 : (int32_t)p;
}

/* What the row knows of symbols beyond k on one side, as frequencies with that of "outside" included. */
static uint32_t beyond(const map *m, int32_t row, int negative, int64_t k) {
    const uint32_t *cdf = m->cdf + m->row_start[row];
    int64_t inside = m->row_start[row + 1] - m->row_start[row] - 2, zero = -(int64_t)m->minimum[row];
    int64_t edge = negative ? zero - k : zero + k + 1;
    if (edge < 0) edge = 0;
    if (edge > inside) edge = inside;
    uint32_t outside = 65536 - cdf[inside];
    return negative ? cdf[edge] + outside : cdf[inside] - cdf[edge] + outside;
}

static int32_t at(const map *m, const int32_t *values, int64_t y, int64_t x, int64_t c) {
    if (y < 0 || y >= m->height || x < 0 || x >= m->width) return 0;
    return values[(y * m->width + x) * m->channels + c];
}

static int32_t size_of(int32_t symbol) { return symbol == 0 ? 0 : symbol < -2 || symbol > 2 ? 3 : symbol < 0 ? -symbol : symbol; }
static int32_t sign_of(int32_t symbol) { return (symbol > 0) - (symbol < 0); }
static int32_t at_most(int32_t value, int32_t limit) { return value < limit ? value : limit; }
static int32_t rough(int32_t count) { return count < 3 ? count : count < 5 ? 3 : count < 8 ? 4 : count < 13 ? 5 : count < 22 ? 6 : 7; }

/* The symbols around that are known (the others are zero in m->symbols). */
typedef struct { int32_t beside, across, before, before_around, lower[4], here, near, horizontal, vertical; } surroundings;

static surroundings look(const map *m, int64_t y, int64_t x, int64_t c) {
    surroundings s = {0};
    int64_t place = y * m->width + x;
    for (int k = 0; k < 4; k++) {
        static const int DOWN[4] = {-1, 1, 0, 0}, RIGHT[4] = {0, 0, -1, 1};
        int32_t symbol = at(m, m->symbols, y + DOWN[k], x + RIGHT[k], c);
        s.beside += size_of(symbol);
        if (k < 2) s.vertical += sign_of(symbol); else s.horizontal += sign_of(symbol);
        s.across += size_of(at(m, m->symbols, y + (k & 2) - 1, x + 2 * (k & 1) - 1, c));
        if (m->previous) s.before_around += size_of(at(m, m->previous, y + DOWN[k], x + RIGHT[k], c));
        s.lower[k] = c > k ? m->symbols[place * m->channels + c - k - 1] : 0;
    }
    if (m->previous) s.before = m->previous[place * m->channels + c];
    s.here = m->counts[place];
    s.near = (y ? m->counts[place - m->width] : 0) + (y + 1 < m->height ? m->counts[place + m->width] : 0) +
             (x ? m->counts[place - 1] : 0) + (x + 1 < m->width ? m->counts[place + 1] : 0);
    return s;
}

static int64_t code_symbol(statistics *s, channel *io, const map *m, int64_t y, int64_t x, int32_t c, int32_t level, int32_t row, int64_t symbol) {
    surroundings around = look(m, y, x, c);
    int32_t beside = at_most(around.beside, 3), across = at_most(around.across, 3), before = size_of(around.before);
    int32_t before_around = at_most(around.before_around, 3), here = rough(around.here), near = rough(around.near);
    int32_t lower[4];
    for (int k = 0; k < 4; k++) lower[k] = size_of(around.lower[k]);
    int32_t half = level >> 1, lowers = rough(lower[0] + lower[1] + lower[2] + lower[3]);

    uint32_t negatives = beyond(m, row, 1, 0), positives = beyond(m, row, 0, 0);
    int32_t zero[CONTEXTS] = {
        (level * 4 + beside) * 4 + across,
        c * 4 + beside,
        (level * 4 + before) * 4 + before_around,
        (here * 8 + near) * 32 + half,
        ((lower[0] * 4 + lower[1]) * 4 + lower[2]) * 32 + half,
        c * 8 + here,
        ((near * 4 + beside) * 4 + before) * 8 + lowers,
    };
    if (!decide(s, io, ZERO, zero, 7, share(negatives + positives, 65536 + 65536 - m->cdf[m->row_start[row + 1] - 2]), symbol != 0)) return 0;

    int32_t sign[CONTEXTS] = {
        c,
        (around.vertical + around.horizontal + 4) * 3 + sign_of(around.before) + 1,
        c * 9 + around.vertical + around.horizontal + 4,
        c * 3 + sign_of(around.before) + 1,
        ((around.horizontal + 2) * 5 + around.vertical + 2) * 3 + sign_of(around.lower[0]) + 1,
        c * 3 + sign_of(around.lower[0]) + 1,
    };
    int negative = decide(s, io, SIGN, sign, 6, share(negatives, negatives + positives), symbol < 0);

    int64_t size = symbol < 0 ? -symbol : symbol, k = 1;
    for (; k < LARGEST; k++) {
        int32_t step = at_most((int32_t)k, 3);
        int32_t more[CONTEXTS] = {
            c * 4 + step,
            (level * 4 + beside) * 4 + step,
            (level * 4 + before) * 4 + step,
            (here * 8 + rough(around.beside + around.across)) * 4 + step,
            ((lower[0] * 4 + lower[1]) * 4 + beside) * 4 + step,
        };
        if (!decide(s, io, MORE, more, 5, share(beyond(m, row, negative, k), beyond(m, row, negative, k - 1)), size > k)) break;
    }
    if (k == LARGEST) {
        uint64_t rest = (uint64_t)(size - LARGEST + 1); /* at least 1 */
        int length = 0;
        if (io->writing) while (rest >> (length + 1)) length++;
        int longer = 0;
        while (decide_plainly(io, 32768, longer < length) && longer < 33) longer++;
        uint64_t number = 1;
        for (int bit = longer - 1; bit >= 0; bit--) number = number << 1 | (uint64_t)decide_plainly(io, 32768, (int)(rest >> bit) & 1);
        k = (int64_t)number + LARGEST - 1;
    }
    return negative ? -k : k;
}

/* Codes the symbols of the map that are to be coded, place by place. Returns -1 for one that no encoder writes. */
static int code_map(statistics *s, channel *io, map *m) {
    int64_t places = m->height * m->width;
    m->counts = calloc((size_t)places, sizeof(int32_t));
    if (!m->counts) return -2;
    for (int64_t i = 0; i < places * m->channels; i++) m->counts[i / m->channels] += m->symbols[i] != 0;
    int result = 0;
    for (int64_t place = 0; place < places && !result; place++)
        for (int64_t c = 0; c < m->channels; c++) {
            int64_t i = place * m->channels + c;
            if (!m->coded[i]) continue;
            int64_t symbol = m->source ? m->source[i] : 0;
            symbol = code_symbol(s, io, m, place / m->width, place % m->width, (int32_t)c, m->levels[i], m->rows[i], symbol);
            if (symbol > INT32_MAX || symbol < INT32_MIN) { result = -1; break; }
            m->symbols[i] = (int32_t)symbol;
            m->counts[place] += symbol != 0;
        }
    free(m->counts);
    return result;
}

PUBLIC int64_t mixing_size(void) { return (int64_t)sizeof(statistics); }

/* What is known before the first symbol: nothing, and that the rows are right. */
PUBLIC void mixing_start(statistics *s) {
    memset(s, 0, sizeof *s);
    for (int kind = 0; kind < KINDS; kind++) {
        for (int i = 0; i < CONTEXTS; i++) s->weights[kind][i] = 16000;
        s->weights[kind][CONTEXTS] = 10000;
    }
}

/* The decisions that code a map: their number, and their probabilities and bits for rans_write. */
PUBLIC int64_t mixing_encode(statistics *s, uint16_t *probabilities, uint8_t *bits, const int32_t *source,
                             int32_t *symbols, const int32_t *previous, const int32_t *rows, const uint8_t *levels,
                             const uint8_t *coded, int64_t channels, int64_t height, int64_t width,
                             const uint32_t *cdf, const int32_t *row_start, const int32_t *minimum) {
    map m = {source, symbols, previous, rows, levels, coded, channels, height, width, cdf, row_start, minimum, 0};
    channel io = {.writing = 1, .probabilities = probabilities, .bits = bits};
    if (!logits[4095]) make_logits();
    int result = code_map(s, &io, &m);
    return result ? result : io.count;
}

/* Reads a map. Returns 0, or less when the bytes can't have come from the encoder. */
PUBLIC int mixing_decode(statistics *s, uint32_t *state, int64_t *position, const uint8_t *data, int64_t size,
                         int32_t *symbols, const int32_t *previous, const int32_t *rows, const uint8_t *levels,
                         const uint8_t *coded, int64_t channels, int64_t height, int64_t width, const uint32_t *cdf,
                         const int32_t *row_start, const int32_t *minimum) {
    map m = {0, symbols, previous, rows, levels, coded, channels, height, width, cdf, row_start, minimum, 0};
    channel io = {.rans = {*state, *position}, .data = data, .size = size};
    if (!logits[4095]) make_logits();
    renew(&io.rans, data, size);
    int result = code_map(s, &io, &m);
    *state = io.rans.state;
    *position = io.rans.position;
    return result;
}
