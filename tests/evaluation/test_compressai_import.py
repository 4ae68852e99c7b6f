"""CompressAI imports with whole and with broken torchvision, and the repair is used only where it is needed."""

import importlib
import subprocess
import sys
import types

import pytest

from vcodec.errors import VcodecError
from vcodec.evaluation import compressai_import
from vcodec.evaluation.compressai_import import SYMPTOM, import_compressai

PROBE = """
import importlib, torch
{before}
try:
    importlib.import_module("torchvision")
    broken = False
except RuntimeError:
    broken = True
import vcodec.evaluation.compressai_import as repair
video = repair.import_compressai("compressai.models.video")
assert video.ScaleSpaceFlow.__name__ == "ScaleSpaceFlow"
assert bool(repair._declared) == broken, (repair._declared, broken)
print("broken" if broken else "whole")
"""

# What a torchvision that loads its library does before it is imported.
DECLARE = """
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    try:
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        pass
"""


def probe(before: str) -> str:
    code = PROBE.format(before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_compressai_imports_here_and_is_repaired_only_if_broken():
    assert probe(before="") in ("broken", "whole")


def test_nothing_is_declared_where_torchvision_is_whole():
    assert probe(before=DECLARE) == "whole"


def test_the_operators_are_declared_after_the_symptom(monkeypatch):
    calls = []

    def import_module(name):
        calls.append(name)
        if len(calls) == 1:
            raise RuntimeError(f"operator {SYMPTOM}")
        return types.ModuleType(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(compressai_import, "_declare_operators", lambda: calls.append("declared"))
    assert import_compressai("compressai_stand_in").__name__ == "compressai_stand_in"
    assert calls == ["compressai_stand_in", "declared", "compressai_stand_in"]


def test_other_errors_are_not_hidden(monkeypatch):
    def import_module(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(RuntimeError, match="something else"):
        import_compressai()


def test_a_missing_package_is_named():
    with pytest.raises(VcodecError, match="no_such_package"):
        import_compressai("no_such_package")
