"""Import CompressAI also where torchvision's compiled operators are missing.

CompressAI imports torchvision, and torchvision at import describes its operators `nms` and `qnms` to torch. Beside a
torch without CUDA, a torchvision built for CUDA can't load the library that defines them, and the import ends in
`operator torchvision::nms does not exist`. Neither operator is used by any codec, so declaring them is enough.
"""

import importlib
import sys
from types import ModuleType

import torch

from vcodec.errors import VcodecError

SYMPTOM = "torchvision::nms does not exist"
OPERATORS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",)
QUANTIZED_OPERATORS = ("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",)

_declared: list[torch.library.Library] = []
"""The declarations live as long as the library object does."""


def import_compressai(module: str = "compressai") -> ModuleType:
    """CompressAI, or a module of it, declaring torchvision's operators only if the import fails for want of them."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise VcodecError(f"This needs the package {error.name}: pip install compressai.") from error
    except RuntimeError as error:
        if SYMPTOM not in str(error):
            raise
    _declare_operators()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "compressai")]:
        del sys.modules[name]  # half imported
    return importlib.import_module(module)


def _declare_operators() -> None:
    if not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in (*OPERATORS, *QUANTIZED_OPERATORS):
            library.define(operator)
        _declared.append(library)
