/* Every kernel for one instruction set and one type; see scan_vector.h for what the includer sets. */
#include "scan_vector.h"

#include "scan_forward.h"

#include "scan_backward.h"

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
