"""Imports the packages of others for the tests of `tests/applications`.

Without a package its tests are skipped, with a reason; under GODIS_TEST_STRICT=1 they fail.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from left_out import APPLICATIONS


def package(module: str, distribution: str = "") -> Any:
    """Import a module of a package from PyPI; without it, skip the tests that follow, or fail as `require` does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        reason = f"{APPLICATIONS}: {distribution or module} ({missing})"
        if os.environ.get("GODIS_TEST_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)


def beside(module: str) -> str:
    """Return the folder of a package that needs an older redis-py than the others do, for PYTHONPATH."""
    folder = Path(sys.prefix) / "redis-py-5"
    if not (folder / module).exists():
        reason = f"{APPLICATIONS}: {module}"
        if os.environ.get("GODIS_TEST_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)
    return str(folder)
