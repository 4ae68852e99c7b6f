"""Memory: how much there is, and how freed memory is kept for the next frame."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
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


def memory_of_machine() -> int | None:
    """Bytes that this process may have: all of the machine's, or its container's share; None where it isn't known."""
    found = []
    with suppress(AttributeError, OSError, ValueError):  # not every system has sysconf, or these names in it
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in CONTROL_GROUPS:
        with suppress(OSError, ValueError):  # "max" stands for no limit
            found.append(int(path.read_text()))
    return min(found, default=None)
