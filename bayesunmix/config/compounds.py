"""Files of compounds that users write, for the names that are proposed for phases."""

from __future__ import annotations

from pathlib import Path

from bayesunmix.chemistry.compounds import Compound, kinds_of, read_compounds, with_own
from bayesunmix.config.toml_file import read_toml
from bayesunmix.core.errors import check_choice, check_path

FIELD = "output.compounds"


def all_compounds(path: object = None, field: str = FIELD) -> tuple[Compound, ...]:
    """Return the library with the entries of a user's file, where there is one.

    Raises
    ------
    InputError
        If the file cannot be read or used.
    """
    if path is None:
        return with_own(())
    return with_own(read_compounds(read_toml(check_path(field, path), field), field))


def check_compounds(field: str, value: object) -> Path:
    """Return the path of a file of compounds, or raise `InputError` unless it can be used."""
    path = check_path(field, value)
    all_compounds(path, field)
    return path


def check_kind(field: str, value: object, compounds: tuple[Compound, ...]) -> str:
    """Return a kind of sample that entries occur in, or raise `InputError`."""
    return check_choice(field, value, kinds_of(compounds))
