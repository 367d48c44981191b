"""Parse the command line and the GODIS_ variables of the environment.

1. docopt parses the command line by the usage text. Before it, `check_flags` refuses flags that docopt accepts or does
   not explain: a flag that is abbreviated, unknown, given twice, or without its value.
2. An error names the flag or the variable. It never contains a value that may be a password.
3. A variable that is not a setting is ignored with a warning. Kubernetes and Docker set variables such as
   GODIS_PORT=tcp://10.0.0.1:6379 in each container beside a service named godis. These are ignored, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from docopt import DocoptExit, docopt

from config import BY_NAME, NO_LOG_VARIABLE, SETTINGS

VARIABLES = {setting.variable: setting.option for setting in SETTINGS if setting.variable} | {
    NO_LOG_VARIABLE: "--no-log"
}
LINK_NAME = re.compile(
    r"GODIS_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
OPTION = re.compile(r"^  (?:-h )?(--[a-z-]+)", re.MULTILINE)
LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")


class CommandLineError(Exception):
    """The command line is invalid; the message names the reason."""


def parse(usage: str, arguments: list[str], version: str) -> dict[str, Any]:
    """Return the value of each flag and word of the usage text. Raises SystemExit after --help and --version."""
    check_flags(usage, arguments)
    try:  # the usage text has no `[default: …]`, because docopt's default would hide the environment's value
        flags: dict[str, Any] = docopt(with_options_of(usage, arguments), arguments, version=version)
    except DocoptExit:
        raise CommandLineError("these words and flags do not go together") from None
    return dict.fromkeys(OPTION.findall(usage)) | flags


def with_options_of(usage: str, arguments: list[str]) -> str:
    """Return the usage text without the options that are not given: docopt takes 15 ms for all of them."""
    given = {word.partition("=")[0] for word in arguments}
    if given & {"-h", "--help"}:
        return usage
    head, *rows = re.split(r"\n(?=  (?:-h )?--)", usage)
    return "\n".join([head, *(row for row in rows if given & {*OPTION.findall(row)})])


def check_flags(usage: str, arguments: list[str]) -> None:
    """Raise CommandLineError for an unknown command or flag, and for a flag given twice or without its value."""
    rows = re.findall(r"^  (?:-h )?(--[a-z-]+)( [A-Z])?", usage, re.MULTILINE)
    takes_value = {flag: bool(value) for flag, value in rows} | {"-h": False}
    commands = re.findall(r"^  godis\.py ([a-z]+)", usage, re.MULTILINE)
    seen: set[str] = set()
    words = iter(arguments)
    for word in words:
        if word == "--":
            return
        flag, equals, _ = word.partition("=")
        if not word.startswith("-") or word == "-":
            if not seen & {*commands} and word not in commands:
                raise CommandLineError(f"there is no command {word!r}{did_you_mean(word, commands)}")
        elif flag not in takes_value:
            raise CommandLineError(f"there is no flag {flag!r}{did_you_mean(flag, takes_value)}")
        elif flag in seen:
            raise CommandLineError(f"{flag} is given twice")
        elif equals and not takes_value[flag]:
            raise CommandLineError(f"{flag} takes no value")
        elif takes_value[flag] and not equals and next(words, "--") == "--":
            raise CommandLineError(f"{flag} needs a value")
        seen.add(flag)


def short_usage(usage: str) -> str:
    """Return the paragraph of the usage text that lists the forms of the command line."""
    return "Usage:" + usage.partition("Usage:")[2].partition("\n\n")[0]


def read_variables(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the non-empty variables that are settings, and warnings about other GODIS_ variables."""
    found: dict[str, str] = {}
    warnings: list[str] = []
    for name, value in environment.items():
        if not name.startswith("GODIS_") or not value or LINK_NAME.fullmatch(name):
            continue
        if name.endswith("_PORT") and LINK_VALUE.fullmatch(value):
            if name in VARIABLES:
                warnings.append(
                    f"the variable {name} is ignored: {value!r} is the address of a service, as Kubernetes and Docker "
                    f"set it for one named godis, and no port; {VARIABLES[name]} sets the port"
                )
        elif name in VARIABLES:
            found[name] = value
        else:
            warnings.append(f"the variable {name!r} is no setting and is ignored{did_you_mean(name, VARIABLES)}")
    return found, warnings


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a question with the nearest known name, or an empty string."""
    import difflib  # noqa: PLC0415  # the import takes some milliseconds, and only a wrong name needs it

    given, names = name_part(name), {name_part(each): each for each in known}
    setting = BY_NAME.get(given)  # Redis's name of a setting
    if setting is not None and setting.option and setting.option in known:
        nearest = [name_part(setting.option)]
    else:
        nearest = difflib.get_close_matches(given, names, 1) or [each for each in names if each.startswith(given)][:1]
    return f": did you mean {names[nearest[0]]}?" if nearest else ""


def name_part(name: str) -> str:
    """Return a flag without its dashes, or a variable without GODIS_."""
    return name.removeprefix("--").removeprefix("GODIS_")
