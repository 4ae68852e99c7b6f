/* Every kernel for one instruction set and one type; see scan_vector.h for what the includer sets. */
#include "scan_vector.h"

#include "scan_forward.h"

#include "scan_backward.h"

/* y = exp(x), `repetitions` times over, for `count` numbers, a multiple of TILE * LANES: what tests and benchmarks
 * measure exp by. */
static void FN(exp_array)(const void *x, void *y, int64_t count, int64_t repetitions) {
    for (int64_t r = 0; r < repetitions; r++) {
        for (int64_t i = 0; i < count; i += TILE * LANES) {
            VEC z[TILE];
            EACH(j, TILE) z[j] = FN(load)((const REAL *)x + i + j * LANES) * (REAL)EXP_SCALE;
            FN(exp_scaled)(TILE, z);
            EACH(j, TILE) FN(store)((REAL *)y + i + j * LANES, z[j]);
        }
        KEEP_MEMORY();
    }
}

#undef REAL
#undef VEC
#undef INTEGERS
#undef LANES
#undef BROADCAST
#undef EXP_SCALE
#undef LINE
#undef VECTOR_BYTES
#undef DOUBLE
#undef SUFFIX
#undef SIGN_BIT
