/* A vector of LANES numbers of type REAL, and exp and softplus on it.
 *
 * Included once per instruction set and type. The includer sets DOUBLE (0 or 1), LANES (so that a vector has 64 bytes:
 * AVX-512, 32: AVX2 with FMA, 16: whatever the compiler finds for it; 1 lane: plain C) and the suffix of FN.
 * Vectors of GNU C take the operators of plain numbers, so one source serves them all.
 */
#if DOUBLE
typedef double FN(real);
typedef int64_t FN(integer);
#define SIGN_BIT INT64_MIN
#else
typedef float FN(real);
typedef int32_t FN(integer);
#define SIGN_BIT INT32_MIN
#endif
#define REAL FN(real)
#define VEC FN(vector)
#define INTEGERS FN(integers)
#define LINE (64 / (int)sizeof(REAL)) /* numbers in a cache line */

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

/* Store what is not read again soon past the caches, to an address that is a multiple of the vector's size. */
#if VECTOR_BYTES == 64 && DOUBLE
INLINE void FN(stream)(REAL *p, VEC x) { _mm512_stream_pd(p, x); }
#elif VECTOR_BYTES == 64
INLINE void FN(stream)(REAL *p, VEC x) { _mm512_stream_ps(p, x); }
#elif VECTOR_BYTES == 32 && DOUBLE
INLINE void FN(stream)(REAL *p, VEC x) { _mm256_stream_pd(p, x); }
#elif VECTOR_BYTES == 32
INLINE void FN(stream)(REAL *p, VEC x) { _mm256_stream_ps(p, x); }
#else
INLINE void FN(stream)(REAL *p, VEC x) { FN(store)(p, x); }
#endif

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

/* -|x| */
INLINE VEC FN(negative)(VEC x) {
    return FN(from_bits)(FN(bits)(x) | SIGN_BIT);
}

/* EXP_SCALE * a is what exp_scaled takes to give exp(a): the float version works in powers of two, so that the
 * factor goes into A once; the double version keeps a as it is, for the last places. */
#if !DOUBLE
#define EXP_SCALE 1.44269504088896341f

#if VECTOR_BYTES == 64
/* Of 32 numbers, for each lane the one that its last five bits count. */
INLINE VEC FN(look_up)(const REAL *table, VEC index) {
    return _mm512_permutex2var_ps(FN(load)(table), (__m512i)index, FN(load)(table + 16));
}

/* 2^(i/32) */
static const float FN(powers)[32] = {
    1.0f, 1.0218972f, 1.04427373f, 1.06714046f, 1.09050775f, 1.1143868f, 1.13878858f, 1.1637249f,
    1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f, 1.35425556f, 1.38390994f,
    1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f, 1.5759809f, 1.61049032f, 1.64575553f,
    1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f, 1.8340081f, 1.87416768f, 1.91520655f, 1.95714414f,
};

/* 2^x = 2^n (1 + ...) with n the nearest multiple of 1/32, whose fraction is looked up: under 2 ulp. The polynomial
 * has a relative error of 5.3e-8. */
INLINE void FN(exp_scaled)(const int count, VEC *x) {
    VEC n[TILE], f[TILE], power[TILE], p[TILE];
    EACH(j, count) n[j] = _mm512_roundscale_ps(x[j], 0x50);
    EACH(j, count) power[j] = x[j] + 393216.0f; /* 1.5 * 2^18: the last bits count 32nds */
    EACH(j, count) f[j] = x[j] - n[j];
    EACH(j, count) power[j] = FN(look_up)(FN(powers), power[j]);
    EACH(j, count) p[j] = f[j] * 0.240226497376f + 0.693157329773f;
    EACH(j, count) f[j] = f[j] * power[j];
    EACH(j, count) p[j] = p[j] * f[j] + power[j];
    EACH(j, count) x[j] = _mm512_scalef_ps(p[j], n[j]);
}
#else
/* 2^x, from 2^f for |f| <= 1/2 (minimax with p(0) = 1, relative error 9.2e-8): under 2 ulp. */
INLINE void FN(exp_scaled)(const int count, VEC *x) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded, and stands in the last bits */
    VEC n[TILE], f[TILE], p[TILE];
    EACH(j, count) x[j] = FN(clamp)(x[j], -125.0f, 128.0f);
    EACH(j, count) n[j] = x[j] + shift;
    EACH(j, count) f[j] = x[j] - (n[j] - shift);
    EACH(j, count) p[j] = f[j] * 0.00132647134903f + 0.00967152326943f;
    EACH(j, count) p[j] = p[j] * f[j] + 0.0555073387211f;
    EACH(j, count) p[j] = p[j] * f[j] + 0.240222419232f;
    EACH(j, count) p[j] = p[j] * f[j] + 0.693146977478f;
    EACH(j, count) p[j] = p[j] * f[j] + 1.0f;
    EACH(j, count) x[j] = FN(from_bits)(FN(bits)(p[j]) + (FN(bits)(n[j]) << 23));
}
#endif

#if VECTOR_BYTES == 64
/* 1 / (1 + i/31), and the logarithm of 1 over it as it is rounded here */
static const float FN(inverses)[32] = {
    1.0f, 0.96875f, 0.939393938f, 0.911764681f, 0.885714293f, 0.861111104f, 0.837837815f, 0.815789461f,
    0.794871807f, 0.774999976f, 0.756097555f, 0.738095224f, 0.720930219f, 0.704545438f, 0.688888907f, 0.673913062f,
    0.659574449f, 0.645833313f, 0.632653058f, 0.620000005f, 0.607843161f, 0.596153855f, 0.584905684f, 0.57407409f,
    0.563636363f, 0.553571403f, 0.543859661f, 0.534482777f, 0.525423706f, 0.516666651f, 0.508196712f, 0.5f,
};
static const float FN(logarithms)[32] = {
    0.0f, 0.0317486972f, 0.0625203624f, 0.0923733488f, 0.121360846f, 0.149531737f, 0.17693074f, 0.203598976f,
    0.229574427f, 0.25489229f, 0.279584885f, 0.303682446f, 0.32721293f, 0.350202441f, 0.37267527f, 0.394654155f,
    0.416160434f, 0.437213838f, 0.457833111f, 0.478035808f, 0.497838378f, 0.517256498f, 0.536304653f, 0.554996789f,
    0.573345959f, 0.591364503f, 0.609064043f, 0.626455784f, 0.643550277f, 0.660357416f, 0.676886678f, 0.693147182f,
};

/* log(1 + z) for 0 <= z <= 1: that of the nearest 1 + i/31, looked up, and log(1 + r) for the rest |r| <= 1/62;
 * relative error of the polynomial 2.6e-7. For i = 0, r is z itself, so small z lose nothing. No division: it takes
 * as long as all of this. */
INLINE void FN(log1p)(const int count, VEC *z) {
    VEC i[TILE], inverse[TILE], p[TILE];
    EACH(j, count) i[j] = z[j] * 31.0f + 12582912.0f; /* 1.5 * 2^23: the last bits count 31sts */
    EACH(j, count) inverse[j] = FN(look_up)(FN(inverses), i[j]);
    EACH(j, count) i[j] = FN(look_up)(FN(logarithms), i[j]);
    EACH(j, count) z[j] = z[j] * inverse[j] + (inverse[j] - 1.0f);
    EACH(j, count) p[j] = z[j] * 0.333385372139f - 0.500048679986f;
    EACH(j, count) i[j] = i[j] + z[j];
    EACH(j, count) z[j] = p[j] * (z[j] * z[j]) + i[j];
}
#else
/* log(1 + z) for 0 <= z <= 1, as 2 atanh(z / (2 + z)); relative error of the polynomial 4.6e-9. */
INLINE void FN(log1p)(const int count, VEC *z) {
    VEC t[TILE], p[TILE];
    EACH(j, count) z[j] = z[j] / (z[j] + 2.0f);
    EACH(j, count) t[j] = z[j] * z[j];
    EACH(j, count) p[j] = t[j] * 0.280244585718f + 0.279991411495f;
    EACH(j, count) p[j] = p[j] * t[j] + 0.400216990528f;
    EACH(j, count) p[j] = p[j] * t[j] + 0.666664131329f;
    EACH(j, count) z[j] = z[j] * (p[j] * t[j] + 2.0f);
}
#endif

#else
#define EXP_SCALE 1.0

#if VECTOR_BYTES == 64
/* 2^(i/16) */
static const double FN(powers)[16] = {
    1.0, 1.04427378242741384, 1.090507732665257659, 1.138788634756691654,
    1.189207115002721067, 1.241857812073484049, 1.296839554651009666, 1.354255546936892728,
    1.414213562373095049, 1.476826145939499311, 1.542210825407940824, 1.610490331949254308,
    1.681792830507429086, 1.756252160373299483, 1.834008086409342463, 1.915206561397147294,
};

/* exp(x) = 2^n exp(r) with n the nearest multiple of 1/16, whose fraction is looked up; relative error of the
 * polynomial 1.2e-17, about 1 ulp in all. */
INLINE void FN(exp_scaled)(const int count, VEC *x) {
    VEC n[TILE], r[TILE], power[TILE], p[TILE];
    EACH(j, count) {
        x[j] = FN(clamp)(x[j], -800.0, 800.0);
        VEC scaled = x[j] * 1.4426950408889634;
        n[j] = _mm512_roundscale_pd(scaled, 0x40);
        power[j] = scaled + 422212465065984.0; /* 1.5 * 2^48: the last bits count sixteenths */
        power[j] = _mm512_permutex2var_pd(FN(load)(FN(powers)), (__m512i)power[j], FN(load)(FN(powers) + 8));
    }
    EACH(j, count) r[j] = x[j] - n[j] * 0x1.62e42fefa0000p-1 - n[j] * 0x1.cf79abc9e3b3ap-40;
    EACH(j, count) p[j] = r[j] * 0.0013889044229167551046 + 0.0083334726086843643302;
    EACH(j, count) p[j] = p[j] * r[j] + 0.041666666670870349833;
    EACH(j, count) p[j] = p[j] * r[j] + 0.16666666664395670042;
    EACH(j, count) p[j] = p[j] * r[j] + 0.4999999999999982003;
    EACH(j, count) p[j] = p[j] * r[j] + 1.0;
    EACH(j, count) x[j] = _mm512_scalef_pd(power[j] * r[j] * p[j] + power[j], n[j]);
}
#else
/* exp(x), from exp(r) for |r| <= log(2) / 2; relative error of the polynomial 5e-20, under 1 ulp in all. */
INLINE void FN(exp_scaled)(const int count, VEC *x) {
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 */
    VEC scaled[TILE], r[TILE], p[TILE];
    EACH(j, count) {
        x[j] = FN(clamp)(x[j], -708.0, 709.7);
        scaled[j] = x[j] * 1.4426950408889634 + shift;
        VEC n = scaled[j] - shift;
        r[j] = x[j] - n * 0x1.62e42fefa0000p-1 - n * 0x1.cf79abc9e3b3ap-40;
    }
    EACH(j, count) p[j] = r[j] * 2.0837276179020996736e-9 + 2.5112262857582282371e-8;
    EACH(j, count) p[j] = p[j] * r[j] + 2.7557549223401301947e-7;
    EACH(j, count) p[j] = p[j] * r[j] + 2.7557234227075835081e-6;
    EACH(j, count) p[j] = p[j] * r[j] + 0.000024801586962820805839;
    EACH(j, count) p[j] = p[j] * r[j] + 0.00019841269897003427752;
    EACH(j, count) p[j] = p[j] * r[j] + 0.001388888888909812593;
    EACH(j, count) p[j] = p[j] * r[j] + 0.0083333333333167916698;
    EACH(j, count) p[j] = p[j] * r[j] + 0.041666666666666128824;
    EACH(j, count) p[j] = p[j] * r[j] + 0.16666666666666683728;
    EACH(j, count) p[j] = p[j] * r[j] + 0.5;
    EACH(j, count) p[j] = p[j] * r[j] + 1.0;
    EACH(j, count) p[j] = p[j] * r[j] + 1.0;
    EACH(j, count) x[j] = FN(from_bits)(FN(bits)(p[j]) + (FN(bits)(scaled[j]) << 52));
}
#endif

/* log(1 + z) for 0 <= z <= 1, as 2 atanh(z / (2 + z)); relative error of the polynomial 4e-20. */
INLINE void FN(log1p)(const int count, VEC *z) {
    VEC t[TILE], p[TILE];
    EACH(j, count) z[j] = z[j] / (z[j] + 2.0);
    EACH(j, count) t[j] = z[j] * z[j];
    EACH(j, count) p[j] = t[j] * 0.16467639477183698488 + 0.069942446675656117715;
    EACH(j, count) p[j] = p[j] * t[j] + 0.10972567251734726947;
    EACH(j, count) p[j] = p[j] * t[j] + 0.11715950633369166484;
    EACH(j, count) p[j] = p[j] * t[j] + 0.13336805819573219254;
    EACH(j, count) p[j] = p[j] * t[j] + 0.15384451932232142841;
    EACH(j, count) p[j] = p[j] * t[j] + 0.18181823202917001944;
    EACH(j, count) p[j] = p[j] * t[j] + 0.22222222125470605859;
    EACH(j, count) p[j] = p[j] * t[j] + 0.28571428572510028972;
    EACH(j, count) p[j] = p[j] * t[j] + 0.39999999999993977627;
    EACH(j, count) p[j] = p[j] * t[j] + 0.66666666666666678319;
    EACH(j, count) z[j] = z[j] * 2.0 + z[j] * t[j] * p[j];
}
#endif

/* x <- log(1 + exp(x)) */
INLINE void FN(softplus)(const int count, VEC *x) {
    VEC z[TILE];
    EACH(j, count) z[j] = FN(negative)(x[j]) * (REAL)EXP_SCALE;
    FN(exp_scaled)(count, z);
    FN(log1p)(count, z);
    EACH(j, count) x[j] = z[j] + FN(max)(x[j], BROADCAST(0));
}

/* The same, and its derivative 1 / (1 + exp(-x)). */
INLINE void FN(softplus_and_slope)(const int count, VEC *x, VEC *slope) {
    VEC z[TILE];
    EACH(j, count) z[j] = FN(negative)(x[j]) * (REAL)EXP_SCALE;
    FN(exp_scaled)(count, z);
    EACH(j, count) slope[j] = FN(select)(x[j] < (REAL)0, z[j], BROADCAST(1)) / (z[j] + (REAL)1);
    FN(log1p)(count, z);
    EACH(j, count) x[j] = z[j] + FN(max)(x[j], BROADCAST(0));
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
