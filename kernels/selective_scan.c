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
#endif

#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#else
#define INLINE static inline
#define UNROLL
#endif

#define CHUNK 64 /* steps whose intermediate values stay in the first-level cache */

/* One scan. A position is row * width + column; strides are in elements, those of delta, B and C over (batch,
 * direction, position) and (batch, direction, group, position), those of u and y over (batch, position). Channels,
 * and the states in B and C, have stride 1; A, D and delta_bias are contiguous. */
struct scan {
    int64_t batch, directions, groups, channels, height, width, states;
    int softplus;
    const void *u, *delta, *A, *B, *C, *D, *delta_bias;
    void *y;
    int64_t u_stride[2], delta_stride[3], B_stride[4], C_stride[4], y_stride[2];
};

struct unit {
    int64_t batch, group, channel, count;
};

static int64_t units_per_group(const struct scan *s, int64_t block) {
    return (s->channels / s->groups + block - 1) / block;
}

/* Units are numbered by sample, group of B and C, and block of channels within the group. */
static struct unit locate_unit(const struct scan *s, int64_t unit, int64_t block) {
    int64_t per_group = units_per_group(s, block), size = s->channels / s->groups;
    int64_t first = unit % per_group * block, group = unit / per_group % s->groups;
    struct unit at = {unit / per_group / s->groups, group, group * size + first, size - first < block ? size - first : block};
    return at;
}

/* Where the steps start ... start + length of a direction lie in the map. */
static void set_positions(const struct scan *s, int64_t direction, int64_t start, int length, int64_t *position) {
    int64_t total = s->height * s->width, sign = direction % 2 ? -1 : 1;
    int64_t at = sign > 0 ? start : total - 1 - start;
    if (direction < 2) {
        for (int t = 0; t < length; t++) position[t] = at + sign * t;
        return;
    }
    int64_t row = at % s->height, column = at / s->height;
    for (int t = 0; t < length; t++) {
        position[t] = row * s->width + column;
        row += sign;
        if (row == s->height) row = 0, column++;
        if (row < 0) row = s->height - 1, column--;
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define FN(name) JOIN(name, SUFFIX)

#ifdef X86
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define VECTOR_BYTES 64
#define GROUP 8
#define DOUBLE 0
#define SUFFIX _avx512_float
#include "scan_kernels.h"
#define DOUBLE 1
#define SUFFIX _avx512_double
#include "scan_kernels.h"
#undef VECTOR_BYTES
#undef GROUP
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define VECTOR_BYTES 32
#define GROUP 4
#define DOUBLE 0
#define SUFFIX _avx2_float
#include "scan_kernels.h"
#define DOUBLE 1
#define SUFFIX _avx2_double
#include "scan_kernels.h"
#undef VECTOR_BYTES
#undef GROUP
#pragma GCC pop_options
#endif

#ifdef __GNUC__
#define VECTOR_BYTES 16
#else
#define VECTOR_BYTES 0
#endif
#define GROUP 4
#define DOUBLE 0
#define SUFFIX _baseline_float
#include "scan_kernels.h"
#define DOUBLE 1
#define SUFFIX _baseline_double
#include "scan_kernels.h"

struct kernels {
    const char *name;
    void (*forward)(const struct scan *, int64_t, void *);
    size_t (*forward_scratch)(const struct scan *);
    int64_t block;
};

/* By instruction set, best first; of each the float and the double kernels. */
#define KERNELS(isa) {{#isa, forward_unit_##isa##_float, forward_scratch_##isa##_float, 16}, \
                      {#isa, forward_unit_##isa##_double, forward_scratch_##isa##_double, 8}}
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

/* Run `count` units on the threads; 0 when memory for a thread's scratch could not be had. */
static int run_units(const struct scan *s, void (*work)(const struct scan *, int64_t, void *), int64_t count,
                     size_t scratch_bytes, int threads) {
    int complete = 1;
    if (threads > count) threads = (int)count;
    (void)threads;
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

static int read_strides(PyObject *tuple, int64_t *strides, int count) {
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != count) {
        PyErr_SetString(PyExc_TypeError, "a tuple of strides has the wrong length");
        return 0;
    }
    for (int i = 0; i < count; i++) strides[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    return !PyErr_Occurred();
}

/* forward(isa, double, threads, softplus, shape, strides of u, delta, B, C and y, addresses) */
static PyObject *forward(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    if (nargs != 18) {
        PyErr_SetString(PyExc_TypeError, "forward takes 18 arguments");
        return NULL;
    }
    struct scan s = {0};
    int64_t shape[7];
    int isa = (int)PyLong_AsLong(args[0]), is_double = PyObject_IsTrue(args[1]), threads = (int)PyLong_AsLong(args[2]);
    s.softplus = PyObject_IsTrue(args[3]);
    if (!read_strides(args[4], shape, 7) || !read_strides(args[5], s.u_stride, 2) ||
        !read_strides(args[6], s.delta_stride, 3) || !read_strides(args[7], s.B_stride, 4) ||
        !read_strides(args[8], s.C_stride, 4) || !read_strides(args[9], s.y_stride, 2))
        return NULL;
    memcpy(&s.batch, shape, sizeof shape);
    void *address[8];
    for (int i = 0; i < 8; i++) address[i] = PyLong_AsVoidPtr(args[10 + i]);
    if (PyErr_Occurred()) return NULL;
    s.u = address[0], s.delta = address[1], s.A = address[2], s.B = address[3], s.C = address[4];
    s.D = address[5], s.delta_bias = address[6], s.y = address[7];
    const struct kernels *kernels = &KERNEL_TABLE[isa][is_double];
    int64_t units = s.batch * s.groups * units_per_group(&s, kernels->block);
    int complete;
    Py_BEGIN_ALLOW_THREADS
    complete = run_units(&s, kernels->forward, units, kernels->forward_scratch(&s), threads);
    Py_END_ALLOW_THREADS
    if (!complete) return PyErr_NoMemory();
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
    {"instruction_sets", instruction_sets, METH_NOARGS, "Those of this processor, best first: {name: number}."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_selective_scan", NULL, -1, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__selective_scan(void) { return PyModule_Create(&MODULE); }
