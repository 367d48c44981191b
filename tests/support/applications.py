"""Imports the packages of others for the tests of `tests/applications`.

Without a package its tests are skipped, with a reason; under GODIS_TEST_STRICT=1 they fail.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

from left_out import APPLICATIONS
from servers import require, require_program


def package(module: str, distribution: str = "") -> Any:
    """Import a module of a package from PyPI; without it, skip the tests that follow, or fail as `require` does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        require(None, f"{APPLICATIONS}: {distribution or module} ({missing})")
        raise


def beside(module: str) -> str:
    """Return the folder of a package that needs an older redis-py than the others do, for PYTHONPATH."""
    folder = Path(sys.prefix) / "redis-py-5"
    require((folder / module).exists(), f"{APPLICATIONS}: {module}")
    return str(folder)


def node_packages(*names: str) -> str:
    """Return the folder of packages from npm, for NODE_PATH; without one or Node.js, skip the tests that follow."""
    folder = Path(sys.prefix) / "node" / "node_modules"
    require_program("node")
    for name in names:
        require((folder / name).exists(), f"{APPLICATIONS}: {name} of npm")
    return str(folder)
