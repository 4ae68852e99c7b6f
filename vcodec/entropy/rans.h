/* The steps of the rANS coder, for the files that code with it: see rans.c. */
#ifndef VCODEC_RANS_H
#define VCODEC_RANS_H

#include <stdint.h>

#if defined(_WIN32)
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

#define PRECISION 16
#define LOWER (1u << 23)

typedef struct {
    uint32_t state;
    int64_t position; /* encoder: bytes still free in front; decoder: bytes read */
} coder;

static inline void put(coder *c, uint8_t *buffer, uint32_t start, uint32_t frequency) {
    uint64_t limit = (uint64_t)(LOWER >> PRECISION << 8) * frequency;
    while (c->state >= limit) {
        buffer[--c->position] = (uint8_t)c->state;
        c->state >>= 8;
    }
    c->state = ((c->state / frequency) << PRECISION) + start + c->state % frequency;
}

static inline void renew(coder *c, const uint8_t *buffer, int64_t size) {
    while (c->state < LOWER && c->position < size) c->state = c->state << 8 | buffer[c->position++];
}

static inline void advance(coder *c, const uint8_t *buffer, int64_t size, uint32_t start, uint32_t frequency) {
    c->state = frequency * (c->state >> PRECISION) + (c->state & 0xffff) - start;
    renew(c, buffer, size);
}

#endif
