"""What tests let workers do: a module of its own, because workers import it by name."""

from __future__ import annotations

import os
from pathlib import Path

from bayesunmix.core.errors import InputError


def work(folder: Path, number: int) -> tuple[int, str, str]:
    """Note that this was tried; some numbers fail, and some kill the process that works at them."""
    with (folder / f"{number}").open("a", encoding="utf-8") as stream:
        stream.write(".")
    if number == 2:
        raise InputError("number", "be another", "is 2")
    if number == 3 or (number == 4 and (folder / "4").read_text() == "."):
        os.kill(os.getpid(), 9)
    return number, os.environ["XLA_FLAGS"], os.environ["BESIDES"]
