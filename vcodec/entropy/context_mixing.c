/* The adaptive coding of a map of symbols by context mixing (mixing.h).
 *
 * A symbol is coded as decisions: is it zero; its sign; is it larger than 1, than 2, ... The row of the symbol's table
 * (what the networks predict) gives each decision a probability. So do some contexts: which channel it is, how large
 * the neighbours in space are, those in the channels before and those in the frame before.
 *
 * With DC prediction, numbers beyond the decisions take lengths that are learnt too, and in the first part of a map the
 * symbols of the first channel are coded as their distance from what the neighbours make likely.
 *
 * context_mixing_python.py holds the same in Python, and the tests hold both to the same bytes. Arrays of a map are
 * (H, W, C): the channels of a place lie together.
 */
#include <math.h>
#include <stdlib.h>

#define CONTEXTS 7
#define ENTRIES 4096
#include "mixing.h"

enum { ZERO, SIGN, MORE, LENGTH, KINDS };
/* of a map with DC prediction, or of one without; CHECKERBOARD, RASTER: the first part, which codes the first channel
 * on a checkerboard, or at every place */
enum { NO_PREDICTION, LATER_PART, CHECKERBOARD, RASTER };
#define LARGEST 15      /* of the magnitudes that are coded by decisions; beyond, an Elias gamma code */
#define LONGEST 33      /* of the code's bits after the first */

typedef struct {
    const int32_t *source;              /* what is to be coded; null when reading */
    const float *exact;                 /* what that was rounded from, or null: then it is coded as it is */
    float price;                        /* bits that a squared error of one is worth */
    int32_t *symbols;                   /* what is known of them; zero elsewhere */
    const int32_t *previous, *rows;     /* of the frame before, or null; the table row of each symbol */
    const uint8_t *levels, *coded;      /* what the contexts know of a row; whether the symbol is coded now */
    int64_t channels, height, width;
    const uint32_t *cdf;
    const int32_t *row_start, *minimum;
    int64_t spacing; /* how far apart neighbours are */
    int dc;
    /* with a border of zeros as wide as that around the places, so that every neighbour exists: */
    int8_t *seen, *seen_before; /* what is known of the symbols, and those of the frame before, kept within -3 to 3 */
    int32_t *counts;            /* of the symbols at each place that are known and not zero */
} map;

/* The row's probability of part / whole, both being frequencies. */
static int32_t share(uint32_t part, uint32_t whole) {
    uint32_t p = whole ? (uint32_t)(((uint64_t)part << 16) / whole) : 32768;
    return p < 32 ? 32 : p > 65504 ? 65504 : (int32_t)p;
}

/* What the row knows of symbols beyond k on one side, as frequencies with that of "outside" included. */
INLINE uint32_t beyond(const map *m, int32_t row, int negative, int64_t k) {
    const uint32_t *cdf = m->cdf + m->row_start[row];
    int64_t inside = m->row_start[row + 1] - m->row_start[row] - 2, zero = -(int64_t)m->minimum[row];
    int64_t edge = negative ? zero - k : zero + k + 1;
    if (edge < 0) edge = 0;
    if (edge > inside) edge = inside;
    uint32_t outside = 65536 - cdf[inside];
    return negative ? cdf[edge] + outside : cdf[inside] - cdf[edge] + outside;
}

static int32_t size_of(int32_t seen) { return seen < 0 ? -seen : seen; }
static int32_t sign_of(int32_t symbol) { return (symbol > 0) - (symbol < 0); }
static int32_t at_most(int32_t value, int32_t limit) { return value < limit ? value : limit; }
static int32_t rough(int32_t count) {
    return count < 3 ? count : count < 5 ? 3 : count < 8 ? 4 : count < 13 ? 5 : count < 22 ? 6 : 7;
}

/* The symbols around that are known (the others are zero in m->symbols). */
typedef struct {
    int32_t beside, across;         /* sizes of the neighbours in the channel */
    int32_t horizontal, vertical;   /* sums of the signs of those beside */
    int32_t before, before_around;  /* the symbol in the frame before, sizes of its neighbours */
    int32_t lower[4];               /* symbols of the place in the channels below */
    int32_t here, near;             /* how many are not zero at the place, and at those beside it */
} surroundings;

/* The width of the map with its border, and a place in that. */
static int64_t wide(const map *m) { return m->width + 2 * m->spacing; }
static int64_t place_of(const map *m, int64_t y, int64_t x) { return (y + m->spacing) * wide(m) + x + m->spacing; }

INLINE surroundings look(const map *m, int64_t place, int64_t c, int32_t near) {
    surroundings s = {0};
    const int64_t right = m->spacing, below = right * wide(m);
    const int64_t across = right * m->channels, down = below * m->channels;
    const int8_t *seen = m->seen + place * m->channels + c;
    s.vertical = sign_of(seen[-down]) + sign_of(seen[down]);
    s.horizontal = sign_of(seen[-across]) + sign_of(seen[across]);
    s.beside = size_of(seen[-down]) + size_of(seen[down]) + size_of(seen[-across]) + size_of(seen[across]);
    s.across = size_of(seen[-down - across]) + size_of(seen[-down + across]) + size_of(seen[down - across]) +
               size_of(seen[down + across]);
    for (int k = 0; k < 4; k++) s.lower[k] = c > k ? seen[-k - 1] : 0;
    if (m->previous) {
        const int8_t *before = m->seen_before + place * m->channels + c;
        s.before = before[0];
        s.before_around =
            size_of(before[-down]) + size_of(before[down]) + size_of(before[-across]) + size_of(before[across]);
    }
    s.here = m->counts[place];
    s.near = near;
    return s;
}

/* How many symbols at the places beside one are known and not zero. */
static int32_t count_beside(const map *m, int64_t place) {
    const int64_t right = m->spacing, below = right * wide(m);
    return m->counts[place - right] + m->counts[place + right] + m->counts[place - below] + m->counts[place + below];
}

typedef struct { /* about a symbol; row: the probability of a one by its table row */
    int kind, count;
    int32_t contexts[CONTEXTS], row;
} question;

typedef struct { /* one symbol: where it stands and what is known */
    learnt *statistics; /* of each kind */
    channel *io;
    const map *m;
    surroundings around;
    int32_t c, level, row;
} place;

/* Is it other than zero? */
INLINE question is_nonzero(const place *p) {
    const surroundings *a = &p->around;
    int32_t beside = at_most(a->beside, 3), across = at_most(a->across, 3), before = size_of(a->before);
    int32_t before_around = at_most(a->before_around, 3), here = rough(a->here), near = rough(a->near);
    int32_t lower[4], half = p->level >> 1;
    for (int k = 0; k < 4; k++) lower[k] = size_of(a->lower[k]);
    question q = {ZERO, 7, {
        (p->level * 4 + beside) * 4 + across,
        p->c * 4 + beside,
        (p->level * 4 + before) * 4 + before_around,
        (here * 8 + near) * 32 + half,
        ((lower[0] * 4 + lower[1]) * 4 + lower[2]) * 32 + half,
        p->c * 8 + here,
        ((near * 4 + beside) * 4 + before) * 8 + rough(lower[0] + lower[1] + lower[2] + lower[3]),
    }, 0};
    uint32_t nonzero = beyond(p->m, p->row, 1, 0) + beyond(p->m, p->row, 0, 0);
    uint32_t outside = 65536 - p->m->cdf[p->m->row_start[p->row + 1] - 2];
    q.row = share(nonzero, 65536 + outside);
    return q;
}

INLINE question is_negative(const place *p) {
    const surroundings *a = &p->around;
    int32_t both = a->horizontal + a->vertical + 4, before = sign_of(a->before) + 1, lower = sign_of(a->lower[0]) + 1;
    question q = {SIGN, 6, {
        p->c,
        both * 3 + before,
        p->c * 9 + both,
        p->c * 3 + before,
        ((a->horizontal + 2) * 5 + a->vertical + 2) * 3 + lower,
        p->c * 3 + lower,
    }, 0};
    uint32_t negatives = beyond(p->m, p->row, 1, 0), positives = beyond(p->m, p->row, 0, 0);
    q.row = share(negatives, negatives + positives);
    return q;
}

/* Is its magnitude larger than k? */
INLINE question is_more(const place *p, int negative, int64_t k) {
    const surroundings *a = &p->around;
    int32_t step = at_most((int32_t)k, 3), beside = at_most(a->beside, 3);
    question q = {MORE, 5, {
        p->c * 4 + step,
        (p->level * 4 + beside) * 4 + step,
        (p->level * 4 + size_of(a->before)) * 4 + step,
        (rough(a->here) * 8 + rough(a->beside + a->across)) * 4 + step,
        ((size_of(a->lower[0]) * 4 + size_of(a->lower[1])) * 4 + beside) * 4 + step,
    }, 0};
    q.row = share(beyond(p->m, p->row, negative, k), beyond(p->m, p->row, negative, k - 1));
    return q;
}

INLINE int ask(const place *p, question q, int answer) {
    return decide(&p->statistics[q.kind], p->io, q.contexts, q.count, q.row, answer);
}

/* The bits that an answer takes. */
static float bits(const place *p, question q, int answer) {
    const int32_t one = foresee(&p->statistics[q.kind], q.contexts, q.count, q.row).probability;
    return 16 - log2f((float)(answer ? one : 65536 - one));
}

/* Whether the number's code is longer, or, where `bit` is given, its second bit: by what was learnt. */
static int code_length(const place *p, int32_t longer, int leading, int bit) {
    const int32_t known = at_most(longer, 15) * 2 + leading;
    int32_t contexts[CONTEXTS] = {p->c * 32 + known, p->level * 32 + known, known};
    return decide(&p->statistics[LENGTH], p->io, contexts, 3, 32768, bit);
}

/* A number of at least 1 as an Elias gamma code, of plain bits or of learnt lengths. */
static int64_t code_large(const place *p, uint64_t number) {
    const int learnt = p->m->dc != NO_PREDICTION;
    int length = 0, longer = 0;
    while (number >> length > 1) length++;
    while ((learnt ? code_length(p, longer, 0, longer < length) : decide_plainly(p->io, 32768, longer < length)) &&
           longer < LONGEST)
        longer++;
    uint64_t coded = 1;
    for (int i = longer - 1; i >= 0; i--) {
        int bit = (int)(number >> i) & 1;
        bit = learnt && i == longer - 1 ? code_length(p, longer, 1, bit) : decide_plainly(p->io, 32768, bit);
        coded = coded << 1 | (uint64_t)bit;
    }
    return (int64_t)coded;
}

static int64_t code_symbol(place *p, int64_t symbol) {
    if (!ask(p, is_nonzero(p), symbol != 0)) return 0;
    int negative = ask(p, is_negative(p), symbol < 0);
    int64_t size = symbol < 0 ? -symbol : symbol, k = 1;
    while (k < LARGEST && ask(p, is_more(p, negative, k), size > k)) k++;
    if (k == LARGEST) k = code_large(p, size < LARGEST ? 1 : (uint64_t)(size - LARGEST + 1)) + LARGEST - 1;
    return negative ? -k : k;
}

/* The encoder's choice between a symbol and its neighbour nearer to zero: that one, where it saves more bits than the
 * larger squared error is worth at the map's price. exact: what the symbol stands for. */
static int64_t bargain(const place *p, int64_t symbol, float exact) {
    const int64_t size = symbol < 0 ? -symbol : symbol;
    const int negative = symbol < 0;
    if (!size || size >= LARGEST) return symbol;
    const int64_t lower = symbol - sign_of((int32_t)symbol);
    const float error = exact - (float)symbol, larger = exact - (float)lower;
    float saved = bits(p, is_more(p, negative, size), 0);
    if (size == 1)
        saved += bits(p, is_nonzero(p), 1) + bits(p, is_negative(p), negative) - bits(p, is_nonzero(p), 0);
    else
        saved += bits(p, is_more(p, negative, size - 1), 1) - bits(p, is_more(p, negative, size - 1), 0);
    return saved > p->m->price * (larger * larger - error * error) ? lower : symbol;
}

/* The symbol of the first channel that its neighbours in the first part, a checkerboard, make likely: those at both
 * sides above, two places above and two to the left. Beyond the edge of the map another one stands in. */
static int64_t expected_on_checkerboard(const map *m, int64_t y, int64_t x) {
    const int64_t here = y * m->width + x, step = m->spacing, down = step * m->width;
    const int64_t left = y >= step && x >= step ? here - down - step : -1;
    const int64_t right = y >= step && x + step < m->width ? here - down + step : -1;
    const int64_t above = y >= 2 * step ? here - 2 * down : -1, before = x >= 2 * step ? here - 2 * step : -1;
    const int64_t beside[4] = {
        left >= 0 ? left : right >= 0 ? right : before,
        right >= 0 ? right : left >= 0 ? left : before,
        above >= 0 ? above : left >= 0 ? left : right >= 0 ? right : before,
        before >= 0 ? before : left >= 0 ? left : right,
    };
    static const int64_t shares[4] = {6, 23, 3, 32}; /* in 64ths */
    int64_t sum = 32;
    for (int i = 0; i < 4; i++)
        if (beside[i] >= 0) sum += shares[i] * m->symbols[beside[i] * m->channels];
    return sum >> 6;
}

/* The same where every place is coded: the left one or the one above, or by both and the one above to the left (the
 * median edge detector of LOCO-I). */
static int64_t expected_in_raster(const map *m, int64_t y, int64_t x) {
    const int32_t *here = m->symbols + (y * m->width + x) * m->channels;
    const int64_t across = m->channels, down = m->width * m->channels;
    if (!y) return x ? here[-across] : 0;
    if (!x) return here[-down];
    const int64_t left = here[-across], above = here[-down], corner = here[-down - across];
    const int64_t low = left < above ? left : above, high = left < above ? above : left;
    return corner >= high ? low : corner <= low ? high : left + above - corner;
}

/* What is taken off a symbol before it is coded. */
static int64_t expected(const map *m, int64_t y, int64_t x, int64_t c) {
    if (c) return 0;
    if (m->dc == CHECKERBOARD) return expected_on_checkerboard(m, y, x);
    return m->dc == RASTER ? expected_in_raster(m, y, x) : 0;
}

static int8_t kept_small(int32_t symbol) { return (int8_t)(symbol < -3 ? -3 : symbol > 3 ? 3 : symbol); }

static void keep_small(const int32_t *symbols, int64_t count, int8_t *seen) {
    for (int64_t i = 0; i < count; i++) seen[i] = kept_small(symbols[i]);
}

static int32_t count_nonzero(const int8_t *seen, int64_t count) {
    int32_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += seen[i] != 0;
    return sum;
}

/* Fills the bordered maps. Returns whether there was memory. */
static int look_over(map *m) {
    const int64_t places = (m->height + 2 * m->spacing) * wide(m);
    m->seen = calloc((size_t)(places * m->channels), 1);
    m->seen_before = m->previous ? calloc((size_t)(places * m->channels), 1) : 0;
    m->counts = calloc((size_t)places, sizeof(int32_t));
    if (!m->seen || !m->counts || (m->previous && !m->seen_before)) return 0;
    const int64_t row = m->width * m->channels;
    for (int64_t y = 0; y < m->height; y++) {
        const int64_t place = place_of(m, y, 0);
        keep_small(m->symbols + y * row, row, m->seen + place * m->channels);
        if (m->previous) keep_small(m->previous + y * row, row, m->seen_before + place * m->channels);
        for (int64_t x = 0; x < m->width; x++)
            m->counts[place + x] = count_nonzero(m->seen + (place + x) * m->channels, m->channels);
    }
    return 1;
}

/* The next coded channel, from c on, of the place whose first symbol has the number `first`; m->channels if there is
 * none. Eight are looked at at a time, since most are not coded. */
static int64_t next_coded(const map *m, int64_t first, int64_t c) {
    const uint8_t *coded = m->coded + first;
    for (uint64_t eight; c + 8 <= m->channels; c += 8) {
        memcpy(&eight, coded + c, 8);
        if (eight) break;
    }
    while (c < m->channels && !coded[c]) c++;
    return c;
}

/* Codes the symbols of a place that are to be coded, channel by channel. */
static int code_place(learnt *s, channel *io, map *m, int64_t y, int64_t x) {
    const int64_t first = (y * m->width + x) * m->channels, here = place_of(m, y, x);
    const int32_t near = count_beside(m, here);
    for (int64_t c = next_coded(m, first, 0); c < m->channels; c = next_coded(m, first, c + 1)) {
        const int64_t i = first + c, likely = expected(m, y, x, c);
        place p = {s, io, m, look(m, here, c, near), (int32_t)c, m->levels[i], m->rows[i]};
        int64_t distance = (m->source ? m->source[i] : 0) - likely;
        if (m->exact) distance = bargain(&p, distance, m->exact[i] - (float)likely);
        const int64_t symbol = likely + code_symbol(&p, distance);
        if (symbol > INT32_MAX || symbol < INT32_MIN) return -1;
        m->symbols[i] = (int32_t)symbol;
        m->seen[here * m->channels + c] = kept_small((int32_t)symbol);
        m->counts[here] += symbol != 0;
    }
    return 0;
}

/* Codes the symbols of the map that are to be coded, place by place. Returns -1 for one that no encoder writes. */
static int code_map(learnt *s, channel *io, map *m) {
    int result = look_over(m) ? 0 : -2;
    for (int64_t y = 0; y < m->height && !result; y++)
        for (int64_t x = 0; x < m->width && !result; x++) result = code_place(s, io, m, y, x);
    free(m->seen);
    free(m->seen_before);
    free(m->counts);
    return result;
}

PUBLIC int64_t mixing_size(void) { return KINDS * (int64_t)sizeof(learnt); }

PUBLIC void mixing_prepare(void) { make_tables(); }

PUBLIC void mixing_start(learnt *statistics) { start(statistics, KINDS); }

/* The decisions that code a map, whose symbols are chosen (see `bargain`) where `exact` is given: their number, and their
 * probabilities and bits for rans_write. */
PUBLIC int64_t mixing_encode(learnt *statistics, uint16_t *probabilities, uint8_t *bits, const int32_t *source,
                             const float *exact, float price, int32_t *symbols, const int32_t *previous,
                             const int32_t *rows, const uint8_t *levels, const uint8_t *coded, int64_t channels,
                             int64_t height, int64_t width, const uint32_t *cdf, const int32_t *row_start,
                             const int32_t *minimum, int64_t spacing, int dc) {
    map m = {source, exact, price, symbols, previous, rows, levels, coded, channels, height, width,
             cdf, row_start, minimum, spacing, dc, 0, 0, 0};
    channel io = writer(probabilities, bits);
    int result = code_map(statistics, &io, &m);
    return result ? result : io.count;
}

/* Reads a map. Returns 0, or less when the bytes can't have come from the encoder. */
PUBLIC int mixing_decode(learnt *statistics, uint32_t *state, int64_t *position, const uint8_t *data, int64_t size,
                         int32_t *symbols, const int32_t *previous, const int32_t *rows, const uint8_t *levels,
                         const uint8_t *coded, int64_t channels, int64_t height, int64_t width, const uint32_t *cdf,
                         const int32_t *row_start, const int32_t *minimum, int64_t spacing, int dc) {
    map m = {0, 0, 0, symbols, previous, rows, levels, coded, channels, height, width,
             cdf, row_start, minimum, spacing, dc, 0, 0, 0};
    channel io = reader(*state, *position, data, size);
    int result = code_map(statistics, &io, &m);
    *state = io.rans.state;
    *position = io.rans.position;
    return result;
}
