"""The Triton back end, in Triton's interpreter: small maps, on the CPU, in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from vcodec.kernels import available_backends

PROGRAM = Path(__file__).with_name("interpreted_triton.py")


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(
    ("dtype", "of_y", "of_gradients"),
    [("float32", 1e-5, 1e-4), ("float64", 1e-12, 1e-11), ("bfloat16", 1e-2, 2e-2), ("float16", 2e-3, 4e-3)],
)
def test_interpreted_triton_equals_the_reference_and_repeats_its_bits(
    dtype: str, of_y: float, of_gradients: float
) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, str(PROGRAM), dtype]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == ["map", "column", "batch", "sequence"]
    for name, y, gradients, same in lines:
        assert float(y) < of_y, name
        assert float(gradients) < of_gradients, name
        assert same == "True", name


def test_a_machine_without_triton_is_told_how_to_get_it() -> None:
    if find_spec("triton") is not None:
        pytest.skip("triton is installed")
    assert "pip install" in (available_backends()["triton"] or "")
