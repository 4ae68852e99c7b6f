"""Memory that is kept for the next frame instead of being given back to the system."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep freed blocks, however large, for the next allocation; whether it could be told.

    Every frame and every training step allocates the same large tensors again. By default each is mapped anew, and
    the system clears every page of it: to allocate and fill 64 MiB then takes ten times as long. Programs call this
    once at their start; a library has no business to.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))
