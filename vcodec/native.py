"""The package's C libraries that are called through ctypes."""

import ctypes
import importlib.util
from typing import Any

POINTER, INT, INT64, FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float


def c_library(name: str, **functions: tuple[Any, list[Any]]) -> Any:
    """The library that was built as the module `name`; None where no compiler was at hand.

    functions: the result's type and the arguments' types of each function that is called.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    library = ctypes.CDLL(spec.origin)
    for function, (result, arguments) in functions.items():
        getattr(library, function).restype, getattr(library, function).argtypes = result, arguments
    return library
