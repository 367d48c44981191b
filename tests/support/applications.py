"""Imports the packages of others for the tests of `tests/applications`.

Without a package its tests are skipped, with a reason; under GODIS_TEST_STRICT=1 they fail.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import pytest
from left_out import APPLICATIONS


def package(module: str, distribution: str = "") -> Any:
    """Import a module of a package from PyPI; without it, skip the tests that follow, or fail as `require` does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        _leave_out(f"{APPLICATIONS}: {distribution or module} ({missing})")


def beside(module: str) -> str:
    """Return the folder of a package that needs an older redis-py than the others do, for PYTHONPATH."""
    folder = Path(sys.prefix) / "redis-py-5"
    if not (folder / module).exists():
        _leave_out(f"{APPLICATIONS}: {module}")
    return str(folder)


def node_packages(*names: str) -> str:
    """Return the folder of packages from npm, for NODE_PATH; without one or Node.js, skip the tests that follow."""
    folder = Path(sys.prefix) / "node" / "node_modules"
    if not shutil.which("node"):
        _leave_out("node is not installed")
    for name in names:
        if not (folder / name).exists():
            _leave_out(f"{APPLICATIONS}: {name} of npm")
    return str(folder)


def _leave_out(reason: str) -> NoReturn:
    if os.environ.get("GODIS_TEST_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
