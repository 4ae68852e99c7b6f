/* Adaptive context mixing: one decision at a time (Mahoney 2005, "Adaptive weighing of context models for lossless
 * data compression"). For the files that code with it, which define CONTEXTS, of a decision at most, and ENTRIES, of a
 * context's table.
 *
 * A decision has a probability by itself, the row's, and one in each of its contexts, which follows what was coded
 * there. All are mixed, as logits, with weights that follow what was coded too. Everything is integers, so every
 * machine does the same. mixing_python.py holds the same in Python.
 */
#ifndef VCODEC_MIXING_H
#define VCODEC_MIXING_H

#include <string.h>
#include "rans.h"

#define LOGIT_ONE 256   /* logits are in 256ths, from -2047 to 2047 */
#define CERTAIN 255     /* visits after which a probability follows no more slowly */
#define LEARNING_RATE 16
#define HEAVIEST (1 << 22)

/* Inlined by force, so that what a decision takes and gives stays in registers. */
#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

typedef struct { uint16_t probability, visits; } entry;

typedef struct { /* what one kind of decision has taught */
    entry contexts[CONTEXTS][ENTRIES];
    int32_t weights[CONTEXTS + 2]; /* in 65536ths; the last two of the row's probability and of one */
} learnt;

typedef struct { /* where decisions go to or come from */
    int writing;
    uint16_t *probabilities; /* of a one, in 65536ths */
    uint8_t *bits;
    int64_t count;
    coder rans;
    const uint8_t *data;
    int64_t size;
} channel;

static const int32_t SIGMOID[33] = {
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581,
    57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
};

static int32_t probability_of(int32_t logit) {
    if (logit > 2047) logit = 2047;
    if (logit < -2047) logit = -2047;
    int32_t position = logit + 2048, part = position & 127;
    return SIGMOID[position >> 7] + ((SIGMOID[(position >> 7) + 1] - SIGMOID[position >> 7]) * part >> 7);
}

static int16_t logits[4096];          /* of the probabilities of 12 bits: the inverse of the above */
static int32_t steps[CERTAIN + 1];    /* how far a probability moves, in 65536ths of the way, by its visits */

/* To be called once before all else. */
static void make_tables(void) {
    for (int32_t visits = 0; visits <= CERTAIN; visits++) steps[visits] = 131072 / (2 * visits + 3);
    int32_t logit = -2047;
    for (int32_t p = 0; p < 4096; p++) {
        while (logit < 2047 && probability_of(logit) < 16 * p + 8) logit++;
        logits[p] = (int16_t)logit;
    }
}

static int32_t logit_of(int32_t probability) { return logits[probability >> 4]; }

INLINE int decide_plainly(channel *c, uint32_t probability, int bit) {
    if (c->writing) {
        c->probabilities[c->count] = (uint16_t)probability;
        c->bits[c->count++] = (uint8_t)bit;
        return bit;
    }
    bit = (c->rans.state & 0xffff) < probability;
    advance(&c->rans, c->data, c->size, bit ? 0 : probability, bit ? probability : 65536 - probability);
    return bit;
}

/* What a decision's contexts say. */
typedef struct {
    entry *found[CONTEXTS];
    int32_t inputs[CONTEXTS + 2]; /* zero where a kind has fewer contexts */
    int32_t probability;          /* of a one, mixed */
} forecast;

/* row: the probability of a one by the symbol's table. */
INLINE forecast foresee(learnt *l, const int32_t *contexts, int count, int32_t row) {
    forecast f = {.inputs = {0}};
    for (int i = 0; i < count; i++) {
        f.found[i] = &l->contexts[i][(uint32_t)contexts[i] % ENTRIES];
        if (!f.found[i]->visits) f.found[i]->probability = (uint16_t)row;
        f.inputs[i] = logit_of(f.found[i]->probability);
    }
    f.inputs[CONTEXTS] = logit_of(row);
    f.inputs[CONTEXTS + 1] = LOGIT_ONE / 4;
    int64_t sum = 0;
    for (int i = 0; i < CONTEXTS + 2; i++) sum += (int64_t)l->weights[i] * f.inputs[i];
    f.probability = probability_of((int32_t)(sum >> 16));
    return f;
}

/* One decision: mixes, codes, learns. */
INLINE int decide(learnt *l, channel *c, const int32_t *contexts, int count, int32_t row, int bit) {
    const forecast f = foresee(l, contexts, count, row);
    const int32_t *inputs = f.inputs, probability = f.probability;
    entry *const *found = f.found;
    int32_t *weights = l->weights;
    bit = decide_plainly(c, (uint32_t)probability, bit);

    int64_t error = (bit << 16) - probability;
    for (int i = 0; i < CONTEXTS + 2; i++) {
        int64_t moved = weights[i] + ((inputs[i] * error + (1 << (LEARNING_RATE - 1))) >> LEARNING_RATE);
        weights[i] = (int32_t)(moved < -HEAVIEST ? -HEAVIEST : moved > HEAVIEST ? HEAVIEST : moved);
    }
    for (int i = 0; i < count; i++) {
        int64_t distance = (bit ? 65535 : 0) - found[i]->probability;
        int32_t moved = found[i]->probability + (int32_t)(distance * steps[found[i]->visits] >> 16);
        found[i]->probability = (uint16_t)(moved < 16 ? 16 : moved > 65519 ? 65519 : moved);
        if (found[i]->visits < CERTAIN) found[i]->visits++;
    }
    return bit;
}

/* What is known before the first decision: nothing, and that the rows are right. */
static void start(learnt *l, int kinds) {
    memset(l, 0, (size_t)kinds * sizeof *l);
    for (int kind = 0; kind < kinds; kind++) {
        for (int i = 0; i < CONTEXTS; i++) l[kind].weights[i] = 16000;
        l[kind].weights[CONTEXTS] = 10000;
    }
}

static channel writer(uint16_t *probabilities, uint8_t *bits) {
    return (channel){.writing = 1, .probabilities = probabilities, .bits = bits};
}

static channel reader(uint32_t state, int64_t position, const uint8_t *data, int64_t size) {
    channel io = {.rans = {state, position}, .data = data, .size = size};
    renew(&io.rans, data, size);
    return io;
}

#endif
