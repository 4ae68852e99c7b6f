/* The selective scan on the CPU: the Python module `_selective_scan`.
 *
 * One build is good for every x86-64 machine: the kernels are compiled for AVX-512, AVX2 and the baseline, and the
 * best that the processor has is taken at run time. Elsewhere the third one is all there is.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define X86 1
#define FENCE() _mm_sfence() /* other threads see what was streamed */
#else
#define FENCE()
#endif

#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#define EACH(i, count) _Pragma("GCC unroll 8") for (int i = 0; i < (count); i++)
#define PREFETCH(p) __builtin_prefetch(p, 0, 2) /* to the second level, which has more lines on their way at once */
#define KEEP_MEMORY() __asm__ volatile("" ::: "memory") /* what was stored counts, even if it is stored again */
#else
#define INLINE static inline
#define EACH(i, count) for (int i = 0; i < (count); i++)
#define PREFETCH(p)
#define KEEP_MEMORY()
#endif

#ifndef TILE
#define TILE 4 /* steps that are worked on at once; a power of 2 */
#define CHUNK 64 /* steps whose positions are worked out at once */
#define AHEAD 16 /* how many steps before they are needed u, delta and y are fetched */
#endif
#define FORWARD_LINES 4 /* at most so many cache lines of channels are in a unit of the forward scan */
#define BACKWARD_CHUNK 64 /* at most so many steps are on the backward scan's tape, a multiple of TILE */
#define STREAMED_BYTES (16 << 20) /* gradients of this size and more are stored past the caches */

/* One scan. A position is row * width + column; strides are in elements, those of delta over (batch, direction,
 * position), of B and C over (batch, direction, group, position), of the others over (batch, position). Channels, and
 * the states in B and C, have stride 1; the rest is contiguous: A (K, D, N), D and delta_bias (K, D), dB and dC
 * (slices, batch, K, G, positions, N), dA (batch, K, D, N), dbias and dD (batch, K, D). */
struct scan {
    int64_t batch, directions, groups, channels, height, width, states, slices;
    int64_t block; /* channels that are not torn apart: whole cache lines */
    int softplus, stream; /* stream: whether ddelta, whose rows are aligned then, is stored past the caches */
    const void *u, *delta, *A, *B, *C, *D, *delta_bias, *dy;
    void *y, *du, *ddelta, *dA, *dB, *dC, *dD, *dbias;
    int64_t u_stride[2], delta_stride[3], B_stride[4], C_stride[4], y_stride[2];
    int64_t dy_stride[2], du_stride[2], ddelta_stride[3];
};

/* A piece of work for one thread: `count` channels of a sample that share a group of B and C. */
struct unit {
    int64_t batch, group, slice, channel, count;
};

static int64_t group_size(const struct scan *s) { return s->channels / s->groups; }

static int64_t blocks_per_group(const struct scan *s) { return (group_size(s) + s->block - 1) / s->block; }

/* The forward scan's units: a block of channels each. */
static struct unit locate_block(const struct scan *s, int64_t unit) {
    int64_t blocks = blocks_per_group(s), first = unit % blocks * s->block, left = group_size(s) - first;
    struct unit at = {.batch = unit / blocks / s->groups, .group = unit / blocks % s->groups};
    at.channel = at.group * group_size(s) + first;
    at.count = left < s->block ? left : s->block;
    return at;
}

/* The backward scan's units: each group's blocks in `slices` parts. */
static struct unit locate_slice(const struct scan *s, int64_t unit) {
    int64_t blocks = blocks_per_group(s);
    struct unit at = {.batch = unit / s->slices / s->groups, .group = unit / s->slices % s->groups};
    at.slice = unit % s->slices;
    int64_t first = at.slice * blocks / s->slices * s->block, end = (at.slice + 1) * blocks / s->slices * s->block;
    at.channel = at.group * group_size(s) + first;
    at.count = (end < group_size(s) ? end : group_size(s)) - first;
    return at;
}

/* Channels in it. */
static int64_t largest_slice(const struct scan *s) { return (blocks_per_group(s) / s->slices + 1) * s->block; }

static int64_t chunk_count(const struct scan *s, int64_t chunk) { return (s->height * s->width + chunk - 1) / chunk; }

/* Steps in a chunk of the backward scan: few, since the steps of a column may lie where they push each other out of the
 * caches, but with many states so many that the states between chunks stay small. */
static int64_t backward_chunk(const struct scan *s) {
    int64_t chunk = 2 * s->states / TILE * TILE;
    return chunk < 16 ? 16 : chunk > BACKWARD_CHUNK ? BACKWARD_CHUNK : chunk;
}

/* Whether to stream ddelta, of numbers of so many bytes. */
static int streams(const struct scan *s, int64_t bytes) {
    int64_t total = s->batch * s->directions * s->channels * s->height * s->width * bytes, aligned = (intptr_t)s->ddelta;
    for (int i = 0; i < 3; i++) aligned |= s->ddelta_stride[i] * bytes;
    return total >= STREAMED_BYTES && aligned % 64 == 0 && group_size(s) * bytes % 64 == 0;
}

/* Where `count` steps from `start` on lie in the map; returns how many of them there are. */
static int set_positions(const struct scan *s, int64_t direction, int64_t start, int64_t count, int64_t *position) {
    int64_t total = s->height * s->width, sign = direction % 2 ? -1 : 1;
    int length = (int)(total - start < count ? total - start : count);
    int64_t at = sign > 0 ? start : total - 1 - start;
    if (direction < 2) {
        for (int t = 0; t < length; t++) position[t] = at + sign * t;
        return length;
    }
    int64_t row = at % s->height, column = at / s->height;
    for (int t = 0; t < length; t++) {
        position[t] = row * s->width + column;
        row += sign;
        if (row == s->height) row = 0, column++;
        if (row < 0) row = s->height - 1, column--;
    }
    return length;
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)

#ifdef X86
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define DOUBLE 0
#define LANES 16
#define SUFFIX _avx512_float
#include "scan_kernels.h"
#define DOUBLE 1
#define LANES 8
#define SUFFIX _avx512_double
#include "scan_kernels.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define DOUBLE 0
#define LANES 8
#define SUFFIX _avx2_float
#include "scan_kernels.h"
#define DOUBLE 1
#define LANES 4
#define SUFFIX _avx2_double
#include "scan_kernels.h"
#pragma GCC pop_options
#endif

#ifdef __GNUC__
#define FLOATS 4
#define DOUBLES 2
#else
#define FLOATS 1
#define DOUBLES 1
#endif
#define DOUBLE 0
#define LANES FLOATS
#define SUFFIX _baseline_float
#include "scan_kernels.h"
#define DOUBLE 1
#define LANES DOUBLES
#define SUFFIX _baseline_double
#include "scan_kernels.h"

struct kernels {
    const char *name;
    int64_t line;
    void (*forward)(const struct scan *, int64_t, void *);
    size_t (*forward_scratch)(const struct scan *);
    void (*backward)(const struct scan *, int64_t, void *);
    size_t (*backward_scratch)(const struct scan *);
    void (*exp_array)(const void *, void *, int64_t, int64_t);
};

/* By instruction set, best first; of each the float and the double kernels. */
#define KERNELS(isa)                                                                    \
    {{#isa, 16, forward_unit_##isa##_float, forward_scratch_##isa##_float,              \
      backward_unit_##isa##_float, backward_scratch_##isa##_float, exp_array_##isa##_float}, \
     {#isa, 8, forward_unit_##isa##_double, forward_scratch_##isa##_double,             \
      backward_unit_##isa##_double, backward_scratch_##isa##_double, exp_array_##isa##_double}}
static const struct kernels KERNEL_TABLE[][2] = {
#ifdef X86
    KERNELS(avx512),
    KERNELS(avx2),
#endif
    KERNELS(baseline),
};

enum { INSTRUCTION_SETS = sizeof KERNEL_TABLE / sizeof KERNEL_TABLE[0] };

static int supported(int isa) {
#ifdef X86
    __builtin_cpu_init();
    if (isa == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    if (isa == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    (void)isa;
    return 1;
}

/* Channels in a unit of the forward scan: some cache lines of them, since memory is read best in long pieces, but so that
 * the unit's u and y may stay in the last cache from direction to direction, that A and the states fit the first one,
 * and that the threads have equally many units, or several each. */
static int64_t forward_block(const struct scan *s, int64_t line, int threads) {
    int64_t lines = (group_size(s) + line - 1) / line, most = 192 / s->states;
    if (most > FORWARD_LINES) most = FORWARD_LINES;
    for (int64_t parts = 1; parts < lines; parts++) {
        int64_t units = s->batch * s->groups * parts;
        if (parts * most >= lines && (units % threads == 0 || units >= 4 * threads))
            return (lines + parts - 1) / parts * line;
    }
    return line;
}

/* As many threads as are worth waking: each should have some 20 microseconds of work. */
static int useful_threads(const struct scan *s, int threads) {
    int64_t numbers = s->batch * s->directions * s->channels * s->height * s->width * (s->states + 4);
    int64_t useful = 1 + numbers / (1 << 18);
    return useful < threads ? (int)useful : threads;
}

/* Run `count` units on the threads; 0 when memory for a thread's scratch could not be had. */
static int run_units(const struct scan *s, void (*work)(const struct scan *, int64_t, void *), int64_t count,
                     size_t scratch_bytes, int threads) {
    int complete = 1;
    threads = useful_threads(s, threads);
    if (threads > count) threads = (int)count;
#ifdef _OPENMP
#pragma omp parallel num_threads(threads) if (threads > 1)
#endif
    {
        char *memory = malloc(scratch_bytes + 64);
        void *scratch = memory ? memory + (64 - (uintptr_t)memory % 64) : NULL;
        if (!memory) complete = 0;
#ifdef _OPENMP
#pragma omp for schedule(dynamic, 1)
#endif
        for (int64_t unit = 0; unit < count; unit++)
            if (scratch) work(s, unit, scratch);
        free(memory);
    }
    return complete;
}

static int read_integers(PyObject *tuple, int64_t *out, int count) {
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != count) {
        PyErr_Format(PyExc_TypeError, "expected a tuple of %d integers", count);
        return 0;
    }
    for (int i = 0; i < count; i++) out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    return !PyErr_Occurred();
}

/* What forward and backward have in common: (instruction set, double, threads, softplus, shape with slices,
 * strides of u, delta, B, C, then a tuple of addresses u, delta, A, B, C, D, delta_bias). */
static const struct kernels *read_scan(PyObject *const *args, struct scan *s, int *threads) {
    int64_t shape[8], address[7], isa = PyLong_AsLongLong(args[0]);
    int is_double = PyObject_IsTrue(args[1]);
    *threads = (int)PyLong_AsLong(args[2]);
    s->softplus = PyObject_IsTrue(args[3]);
    if (PyErr_Occurred() || !read_integers(args[4], shape, 8) || !read_integers(args[5], s->u_stride, 2) ||
        !read_integers(args[6], s->delta_stride, 3) || !read_integers(args[7], s->B_stride, 4) ||
        !read_integers(args[8], s->C_stride, 4) || !read_integers(args[9], address, 7))
        return NULL;
    if (isa < 0 || isa >= INSTRUCTION_SETS) {
        PyErr_SetString(PyExc_ValueError, "no such instruction set");
        return NULL;
    }
    s->batch = shape[0], s->directions = shape[1], s->groups = shape[2], s->channels = shape[3];
    s->height = shape[4], s->width = shape[5], s->states = shape[6], s->slices = shape[7];
    s->u = (void *)address[0], s->delta = (void *)address[1], s->A = (void *)address[2], s->B = (void *)address[3];
    s->C = (void *)address[4], s->D = (void *)address[5], s->delta_bias = (void *)address[6];
    return &KERNEL_TABLE[isa][is_double];
}

/* forward(..., strides of y, address of y) */
static PyObject *forward(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    struct scan s = {0};
    int threads, complete;
    if (nargs != 12) return PyErr_Format(PyExc_TypeError, "forward takes 12 arguments, not %zd", nargs);
    const struct kernels *kernels = read_scan(args, &s, &threads);
    if (!kernels || !read_integers(args[10], s.y_stride, 2)) return NULL;
    s.y = PyLong_AsVoidPtr(args[11]);
    if (PyErr_Occurred()) return NULL;
    s.block = forward_block(&s, kernels->line, threads);
    int64_t units = s.batch * s.groups * blocks_per_group(&s);
    Py_BEGIN_ALLOW_THREADS
    complete = run_units(&s, kernels->forward, units, kernels->forward_scratch(&s), threads);
    Py_END_ALLOW_THREADS
    if (!complete) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* backward(..., strides of dy, du and ddelta, addresses of dy, du, ddelta, dA, dB, dC, dD, dbias) */
static PyObject *backward(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    struct scan s = {0};
    int64_t address[8];
    int threads, complete;
    if (nargs != 14) return PyErr_Format(PyExc_TypeError, "backward takes 14 arguments, not %zd", nargs);
    const struct kernels *kernels = read_scan(args, &s, &threads);
    if (!kernels || !read_integers(args[10], s.dy_stride, 2) || !read_integers(args[11], s.du_stride, 2) ||
        !read_integers(args[12], s.ddelta_stride, 3) || !read_integers(args[13], address, 8))
        return NULL;
    s.dy = (void *)address[0], s.du = (void *)address[1], s.ddelta = (void *)address[2], s.dA = (void *)address[3];
    s.dB = (void *)address[4], s.dC = (void *)address[5], s.dD = (void *)address[6], s.dbias = (void *)address[7];
    s.block = kernels->line;
    s.stream = streams(&s, 64 / kernels->line);
    Py_BEGIN_ALLOW_THREADS
    complete = run_units(&s, kernels->backward, s.batch * s.groups * s.slices, kernels->backward_scratch(&s), threads);
    Py_END_ALLOW_THREADS
    if (!complete) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* exp(instruction set, double, threads, repetitions, count, address of x, address of y): every thread works on `count`
 * numbers of its own. */
static PyObject *exponentials(PyObject *module, PyObject *args) {
    (void)module;
    int isa, is_double, threads;
    long long repetitions, count, x, y;
    if (!PyArg_ParseTuple(args, "ipiLLLL", &isa, &is_double, &threads, &repetitions, &count, &x, &y)) return NULL;
    if (isa < 0 || isa >= INSTRUCTION_SETS || count % (TILE * 16)) {
        PyErr_SetString(PyExc_ValueError, "no such instruction set, or a count that is no multiple of 64");
        return NULL;
    }
    const struct kernels *kernels = &KERNEL_TABLE[isa][is_double];
    int64_t bytes = count * (is_double ? 8 : 4);
    Py_BEGIN_ALLOW_THREADS
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads)
#endif
    for (int i = 0; i < threads; i++)
        kernels->exp_array((char *)(intptr_t)x + i * bytes, (char *)(intptr_t)y + i * bytes, count, repetitions);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *instruction_sets(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyObject *names = PyDict_New();
    for (int i = 0; names && i < INSTRUCTION_SETS; i++) {
        PyObject *index = PyLong_FromLong(i);
        if (supported(i) && (!index || PyDict_SetItemString(names, KERNEL_TABLE[i][0].name, index))) Py_CLEAR(names);
        Py_XDECREF(index);
    }
    return names;
}

static PyMethodDef METHODS[] = {
    {"forward", (PyCFunction)(void (*)(void))forward, METH_FASTCALL, NULL},
    {"backward", (PyCFunction)(void (*)(void))backward, METH_FASTCALL, NULL},
    {"exp", exponentials, METH_VARARGS, NULL},
    {"instruction_sets", instruction_sets, METH_NOARGS, "Those of this processor, best first: {name: number}."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_selective_scan", NULL, -1, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__selective_scan(void) { return PyModule_Create(&MODULE); }
