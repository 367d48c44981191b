"""The toy list as a part of the program: in the tables of a test, or of a server that is started with it."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from servers import GodisProcess


@cache
def _rows() -> dict[bytes, object]:
    """Return the rows of the commands, which are not in the table by then."""
    from commands import TABLE  # noqa: PLC0415 - `main` sets the path first

    known = set(TABLE)
    import_module("toy_list_commands")
    return {name: TABLE.pop(name) for name in set(TABLE) - known}


def install(patch: pytest.MonkeyPatch) -> None:
    """Enter the type and its commands into the tables of the program."""
    from toy_list import LIST, Items  # noqa: PLC0415

    import commands  # noqa: PLC0415
    import values  # noqa: PLC0415

    patch.setitem(values.TYPES, Items, LIST)
    for name, row in _rows().items():
        patch.setitem(commands.TABLE, name, row)


class ToyGodis(GodisProcess):
    """Godis that knows the toy list."""

    def command(self) -> list[str]:
        python, _, *rest = super().command()
        return [python, str(Path(__file__)), *rest]


def main() -> int:
    """Run Godis with the toy list."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import godis  # noqa: PLC0415

    install(pytest.MonkeyPatch())
    return godis.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
