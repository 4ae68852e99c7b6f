"""The selective scan, in one and in two dimensions, behind one dispatching function."""

from .dispatch import available_backends, resolve_backend, use_backend
from .operators import selective_scan, selective_scan_2d

__all__ = [
    "available_backends",
    "resolve_backend",
    "selective_scan",
    "selective_scan_2d",
    "use_backend",
]
