"""The command `godis`: run the program with the arguments of this process."""

from __future__ import annotations

import runpy
import sys

from godis import program


def main() -> None:
    """Run the program in this process, as `python godis.py` does."""
    path = str(program())
    sys.argv[0] = path
    sys.path[0] = str(program().parent)  # as Python itself does for the program that it runs
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    main()
