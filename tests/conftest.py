"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

from vcodec.models import ImageModel, load_model

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """The folder with natural video for training and measuring; it is not part of the project."""
    directory = Path(os.environ.get("VCODEC_DATA", CHECKOUT.parent / "shared" / "data"))
    if not directory.is_dir():
        pytest.skip("no evaluation data: set VCODEC_DATA to the folder that holds eval/, train/ and stills/")
    return directory


@pytest.fixture(scope="session")
def tiny_model() -> ImageModel:
    """A frozen video model that codes in milliseconds (tests/data/make_golden.py)."""
    return load_model(Path(__file__).parent / "data" / "tiny.safetensors")
