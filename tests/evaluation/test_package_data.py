"""The files beside the modules are in the package that is installed."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_data_file_is_installed():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "vcodec" / "evaluation"
    installed = {p for glob in (*patterns["*"], *patterns.get("vcodec.evaluation", ())) for p in package.glob(glob)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files
    assert files <= installed
