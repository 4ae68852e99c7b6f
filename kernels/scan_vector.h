/* A vector of LANES numbers of type REAL, and exp and softplus on it.
 *
 * Included once per instruction set and type. The includer sets DOUBLE (0 or 1), LANES (so that a vector has 64 bytes:
 * AVX-512, 32: AVX2 with FMA, 16: whatever the compiler finds for it; 1 lane: plain C) and the suffix of FN.
 * Vectors of GNU C take the operators of plain numbers, so one source serves them all.
 */
#if DOUBLE
typedef double FN(real);
typedef int64_t FN(integer);
#else
typedef float FN(real);
typedef int32_t FN(integer);
#endif
#define REAL FN(real)
#define VEC FN(vector)
#define INTEGERS FN(integers)

#define VECTOR_BYTES (LANES * (DOUBLE ? 8 : 4))

#if LANES > 1
typedef REAL VEC __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL FN(unaligned) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef FN(integer) INTEGERS __attribute__((vector_size(VECTOR_BYTES)));
INLINE VEC FN(load)(const REAL *p) { return *(const FN(unaligned) *)p; }
INLINE void FN(store)(REAL *p, VEC x) { *(FN(unaligned) *)p = x; }
INLINE INTEGERS FN(bits)(VEC x) { return (INTEGERS)x; }
INLINE VEC FN(from_bits)(INTEGERS x) { return (VEC)x; }
INLINE VEC FN(select)(INTEGERS mask, VEC x, VEC y) {
    return (VEC)((mask & (INTEGERS)x) | (~mask & (INTEGERS)y));
}
#define BROADCAST(x) ((VEC){0} + (x))
#else
typedef REAL VEC;
typedef FN(integer) INTEGERS;
INLINE VEC FN(load)(const REAL *p) { return *p; }
INLINE void FN(store)(REAL *p, VEC x) { *p = x; }
INLINE INTEGERS FN(bits)(VEC x) { INTEGERS i; memcpy(&i, &x, sizeof i); return i; }
INLINE VEC FN(from_bits)(INTEGERS i) { VEC x; memcpy(&x, &i, sizeof x); return x; }
INLINE VEC FN(select)(INTEGERS mask, VEC x, VEC y) { return mask ? x : y; }
#define BROADCAST(x) (x)
#endif

/* The first `count` lanes; the others are 0. */
INLINE VEC FN(load_part)(const REAL *p, int64_t count) {
    if (count >= LANES) return FN(load)(p);
    REAL lanes[LANES] = {0};
    for (int64_t i = 0; i < count; i++) lanes[i] = p[i];
    return FN(load)(lanes);
}

INLINE void FN(store_part)(REAL *p, VEC x, int64_t count) {
    if (count >= LANES) {
        FN(store)(p, x);
        return;
    }
    REAL lanes[LANES];
    FN(store)(lanes, x);
    for (int64_t i = 0; i < count; i++) p[i] = lanes[i];
}

#if VECTOR_BYTES == 64 && DOUBLE
INLINE VEC FN(min)(VEC x, VEC y) { return _mm512_min_pd(x, y); }
INLINE VEC FN(max)(VEC x, VEC y) { return _mm512_max_pd(x, y); }
#elif VECTOR_BYTES == 64
INLINE VEC FN(min)(VEC x, VEC y) { return _mm512_min_ps(x, y); }
INLINE VEC FN(max)(VEC x, VEC y) { return _mm512_max_ps(x, y); }
#elif VECTOR_BYTES == 32 && DOUBLE
INLINE VEC FN(min)(VEC x, VEC y) { return _mm256_min_pd(x, y); }
INLINE VEC FN(max)(VEC x, VEC y) { return _mm256_max_pd(x, y); }
#elif VECTOR_BYTES == 32
INLINE VEC FN(min)(VEC x, VEC y) { return _mm256_min_ps(x, y); }
INLINE VEC FN(max)(VEC x, VEC y) { return _mm256_max_ps(x, y); }
#else
INLINE VEC FN(min)(VEC x, VEC y) { return FN(select)(x < y, x, y); }
INLINE VEC FN(max)(VEC x, VEC y) { return FN(select)(x > y, x, y); }
#endif

/* The value within [low, high]; NaN, being second in every comparison, stays. */
INLINE VEC FN(clamp)(VEC x, REAL low, REAL high) {
    return FN(min)(BROADCAST(high), FN(max)(BROADCAST(low), x));
}

INLINE VEC FN(absolute)(VEC x) {
    return FN(max)(x, -x);
}

/* EXP_SCALE * a is what exp_scaled takes to give exp(a): the float version works in powers of two, so that the
 * factor goes into A once; the double version keeps a as it is, for the last places. */
#if !DOUBLE
#define EXP_SCALE 1.44269504088896341f

/* 2^f for |f| <= 1/2: minimax with p(0) = 1, relative error 9.2e-8. */
INLINE VEC FN(exp2_polynomial)(VEC f) {
    VEC p = f * 0.00132647134903f + 0.00967152326943f;
    p = p * f + 0.0555073387211f;
    p = p * f + 0.240222419232f;
    p = p * f + 0.693146977478f;
    return p * f + 1.0f;
}

/* 2^x; under 2 ulp. */
INLINE VEC FN(exp_scaled)(VEC x) {
#if VECTOR_BYTES == 64
    VEC f = _mm512_reduce_ps(x, 0);
    return _mm512_scalef_ps(FN(exp2_polynomial)(f), x - f);
#else
    x = FN(clamp)(x, -125.0f, 128.0f);
    const float shift = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded, and stands in the last bits */
    VEC n = x + shift;
    VEC p = FN(exp2_polynomial)(x - (n - shift));
    return FN(from_bits)(FN(bits)(p) + (FN(bits)(n) << 23));
#endif
}

/* log(1 + z) for 0 <= z <= 1: minimax, relative error 4.7e-9. */
INLINE VEC FN(log1p)(VEC z) {
    VEC p = z * -0.0032440251734f + 0.0198514623425f;
    p = p * z - 0.0569595342146f;
    p = p * z + 0.106036548781f;
    p = p * z - 0.153055925668f;
    p = p * z + 0.196759392555f;
    p = p * z - 0.249541336555f;
    p = p * z + 0.333299624166f;
    p = p * z - 0.499999024228f;
    return (p * z + 0.999999995287f) * z;
}

#else
#define EXP_SCALE 1.0

/* exp(x); minimax with relative error 5e-20 on the reduced argument, under 1 ulp in all. */
INLINE VEC FN(exp_scaled)(VEC x) {
#if VECTOR_BYTES == 64
    x = FN(clamp)(x, -800.0, 800.0);
    VEC n = _mm512_roundscale_pd(x * 1.4426950408889634, 0);
#else
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 */
    x = FN(clamp)(x, -708.0, 709.7);
    VEC scaled = x * 1.4426950408889634 + shift;
    VEC n = scaled - shift;
#endif
    VEC r = x - n * 0x1.62e42fefa0000p-1 - n * 0x1.cf79abc9e3b3ap-40;
    VEC p = r * 2.0837276179020996736e-9 + 2.5112262857582282371e-8;
    p = p * r + 2.7557549223401301947e-7;
    p = p * r + 2.7557234227075835081e-6;
    p = p * r + 0.000024801586962820805839;
    p = p * r + 0.00019841269897003427752;
    p = p * r + 0.001388888888909812593;
    p = p * r + 0.0083333333333167916698;
    p = p * r + 0.041666666666666128824;
    p = p * r + 0.16666666666666683728;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
#if VECTOR_BYTES == 64
    return _mm512_scalef_pd(p, n);
#else
    return FN(from_bits)(FN(bits)(p) + (FN(bits)(scaled) << 52));
#endif
}

/* log(1 + z) for 0 <= z <= 1, as 2 atanh(z / (2 + z)); relative error of the polynomial 4e-20. */
INLINE VEC FN(log1p)(VEC z) {
    VEC s = z / (z + 2.0);
    VEC t = s * s;
    VEC p = t * 0.16467639477183698488 + 0.069942446675656117715;
    p = p * t + 0.10972567251734726947;
    p = p * t + 0.11715950633369166484;
    p = p * t + 0.13336805819573219254;
    p = p * t + 0.15384451932232142841;
    p = p * t + 0.18181823202917001944;
    p = p * t + 0.22222222125470605859;
    p = p * t + 0.28571428572510028972;
    p = p * t + 0.39999999999993977627;
    p = p * t + 0.66666666666666678319;
    return s * 2.0 + s * t * p;
}
#endif

/* log(1 + exp(x)) */
INLINE VEC FN(softplus)(VEC x) {
    VEC z = FN(exp_scaled)(FN(absolute)(x) * -(REAL)EXP_SCALE);
    return FN(log1p)(z) + FN(max)(x, BROADCAST(0));
}

/* The same, and its derivative 1 / (1 + exp(-x)). */
INLINE VEC FN(softplus_and_slope)(VEC x, VEC *slope) {
    VEC z = FN(exp_scaled)(FN(absolute)(x) * -(REAL)EXP_SCALE);
    *slope = FN(select)(x < (REAL)0, z, BROADCAST(1)) / (z + (REAL)1);
    return FN(log1p)(z) + FN(max)(x, BROADCAST(0));
}

/* The sums over the lanes of LANES vectors, which lie one after the other in memory: lane i is that of vector i.
 * Each round adds neighbouring lanes of two vectors and puts the results into one. */
#if LANES > 1
#ifdef __clang__
#define PICK(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define PICK(x, y, ...) __builtin_shuffle(x, y, (INTEGERS){__VA_ARGS__})
#endif
#define EVERY_SECOND_2(i) i, i + 2
#define EVERY_SECOND_4(i) EVERY_SECOND_2(i), EVERY_SECOND_2(i + 4)
#define EVERY_SECOND_8(i) EVERY_SECOND_4(i), EVERY_SECOND_4(i + 8)
#define EVERY_SECOND_16(i) EVERY_SECOND_8(i), EVERY_SECOND_8(i + 16)
#define EVERY_SECOND(i) JOIN(EVERY_SECOND_, LANES)(i)
#endif
INLINE VEC FN(sum_lanes)(const REAL *vectors) {
    VEC x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = FN(load)(vectors + i * LANES);
#if LANES > 1
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            x[i] = PICK(x[2 * i], x[2 * i + 1], EVERY_SECOND(0)) + PICK(x[2 * i], x[2 * i + 1], EVERY_SECOND(1));
#endif
    return x[0];
}
