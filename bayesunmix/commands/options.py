"""Options that commands share, and checks of what they are given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bayesunmix.core.errors import InputError, check_path

_Command = TypeVar("_Command", bound=Callable[..., Any])


def seed_option(command: _Command) -> _Command:
    return click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of every random draw (default 0)."
    )(command)


def signal_option(command: _Command) -> _Command:
    text = "Which signal of the file is the map, where there is more than one."
    return click.option("--signal", type=click.IntRange(min=0), help=text)(command)


def overwrite_option(command: _Command) -> _Command:
    return click.option("--overwrite", is_flag=True, help="Replace what is there already.")(command)


def config_option(command: _Command) -> _Command:
    return click.option("--config", required=True, type=Path, metavar="FILE", help="TOML configuration.")(
        command
    )


def whole_number(field: str, text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise InputError(field, "be whole numbers such as 2,3", f'holds "{text.strip()}"') from None


def same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def check_output(folder: Path, *, written: bool) -> None:
    from bayesunmix.core.output_folder import settle

    check_path("DIR", folder)
    settle(folder)
    if not (folder / "run.json").is_file():
        raise InputError("DIR", "be an output folder of `bayesunmix unmix`", f'"{folder}" holds no run.json')
    if written and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError("DIR", "be a folder that can be written", f'"{folder}" is not yours to write')


def check_folder(out: Path, *, go_on: bool, remedy: str) -> None:
    """Refuse an output folder that cannot be written, or that holds something, unless the user said to go on."""
    try:
        if out.exists() and not out.is_dir():
            raise InputError("--out", "be a folder", f'"{out}" is a file')
        if out.is_dir() and any(out.iterdir()) and not go_on:
            raise InputError("--out", "be a new or empty folder", f'"{out}" is not empty', remedy)
        above = next(path for path in (out, *out.absolute().parents) if path.exists())
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError("--out", "be a folder that can be made", f'"{out}": {reason}') from None
    if not above.is_dir():
        raise InputError("--out", "be a folder that can be made", f'"{above}" is a file')
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError("--out", "be a folder that can be written", f'"{above}" is not yours to write')
