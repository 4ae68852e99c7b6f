"""The C extensions; everything else is in pyproject.toml.

All are optional: without a compiler the install succeeds, and `vcodec.kernels`, `vcodec.entropy` and `vcodec.flow`
fall back to slower Python (they say so when asked).
"""

import sys
from glob import glob

from setuptools import Extension, setup

if sys.platform == "win32":
    compile_args, link_args = ["/O2", "/openmp"], []
elif sys.platform == "darwin":
    compile_args, link_args = ["-O3"], []
else:
    compile_args, link_args = ["-O3", "-fopenmp"], ["-fopenmp"]

setup(
    ext_modules=[
        Extension(
            "vcodec.kernels._selective_scan",
            sources=["kernels/selective_scan.c"],
            depends=glob("kernels/*.h"),
            extra_compile_args=[*compile_args, "-fno-math-errno", "-ffp-contract=fast"],
            extra_link_args=link_args,
            optional=True,
        ),
        Extension(
            "vcodec.entropy._rans",
            sources=["vcodec/entropy/rans.c", "vcodec/entropy/context_mixing.c", "vcodec/entropy/block_vectors.c"],
            depends=glob("vcodec/entropy/*.h"),
            extra_compile_args=compile_args,
            optional=True,
        ),
        Extension(
            "vcodec.flow._motion_search",
            sources=[
                f"vcodec/flow/{name}.c"
                for name in ("motion_search", "block_refinement", "block_search", "block_prediction")
            ],
            depends=[*glob("vcodec/flow/*.h"), "vcodec/entropy/block_field.h"],
            extra_compile_args=[*compile_args, "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"],
            extra_link_args=link_args,
            optional=True,
        ),
    ]
)
