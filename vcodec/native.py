"""The package's C libraries that are called through ctypes."""

import ctypes
import importlib.util


def c_library(name: str) -> ctypes.CDLL | None:
    """The library that was built as the module `name`; None where no compiler was at hand."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else ctypes.CDLL(spec.origin)
