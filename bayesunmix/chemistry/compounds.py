"""Compounds and solid solutions that a phase may be: the library of the package, and files that users write.

An entry is a mixture of end members, each a formula that balances for itself, so that coupled substitutions
(Na + Si = Ca + Al) come out right. Its density over composition, a judgement and no measurement, is

    n = sum_m w_m n_m,      w_minor = limit u^2,  u uniform in (0, 1);      main end members share the rest,
                                                                            by a Dirichlet(1/2, ..., 1/2)

with n_m the atoms of one formula unit. Both laws (that of u^2 is a Beta(1/2, 1)) lie between flat and scale-free:
compositions near an end member are more frequent than others, minor ones are mostly small, and reach their limit.
Every element then strays from the formula by a relative standard deviation, the tolerance.

``compounds.toml`` has some four hundred entries with their sources; `docs/names.md` tells its keys. Abbreviations of
minerals are those of Whitney, D. L., Evans, B. W., Am. Mineral. 95 (2010) 185, doi:10.2138/am.2010.3371, as far as that
list goes, and others that papers use.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import xraylib

from bayesunmix.core.errors import InputError, check_between, check_text, shown, suggest
from bayesunmix.xray.atomic import atomic_symbol

TOLERANCE = 0.03
"""Relative standard deviation of an element's amount from the formula, where an entry gives none."""
_KEYS = (
    "name",
    "also",
    "group",
    "formula",
    "endmembers",
    "minor",
    "tolerance",
    "weight",
    "occurs_in",
    "source",
)
_MOST_ENTRIES, _MOST_ENDMEMBERS = 2000, 30
_EXAMPLE = '{Forsterite = "Mg2SiO4"}'
# What is said where no entry fits.
NONE_OF_THESE = "none of these"
# Names of up to so many letters are abbreviations or symbols, whose capitals count.
_ABBREVIATION = 4


@dataclass(frozen=True, kw_only=True)
class Endmember:
    """One end of a solid solution.

    Attributes
    ----------
    name, formula
        What it is called, and its formula unit.
    atoms
        Atoms of each element in the formula unit.
    limit
        Largest share, in formula units, of a minor one; None for a main one.
    """

    name: str
    formula: str
    atoms: tuple[tuple[str, float], ...]
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Compound:
    """A stoichiometric compound or solid solution.

    Attributes
    ----------
    name, formula
        What it is called, and its formula as it is shown.
    endmembers
        Main ones first, at least one.
    group
        What it belongs to, such as garnet.
    also
        Abbreviations, other names, and names of varieties.
    tolerance
        Relative standard deviation of each element's amount from that of the mixture of end members.
    weight
        How often it is met, relative to others of its composition that have 1.
    occurs_in
        Kinds of samples; empty for all.
    source
        Author, year and DOI.
    """

    name: str
    formula: str
    endmembers: tuple[Endmember, ...]
    group: str = ""
    also: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    weight: float = 1.0
    occurs_in: tuple[str, ...] = ()
    source: str = ""

    @property
    def main(self) -> tuple[Endmember, ...]:
        """End members that are not minor."""
        return tuple(one for one in self.endmembers if one.limit is None)


def formula_atoms(formula: object, field: str = "formula") -> tuple[tuple[str, float], ...]:
    """Return the atoms of a formula unit, brackets and broken numbers included.

    Raises
    ------
    InputError
        If the text is no formula.

    Examples
    --------
    >>> formula_atoms("Ca5(PO4)3F")
    (('O', 12.0), ('F', 1.0), ('P', 3.0), ('Ca', 5.0))
    """
    must = "be a formula such as Mg2SiO4"
    if not isinstance(formula, str) or not 0 < len(formula) <= 200 or not formula.isascii():
        raise InputError(field, must, f"is {shown(formula)}")
    try:
        parsed = xraylib.CompoundParser(formula)
    except ValueError:
        raise InputError(field, must, f"is {shown(formula)}") from None
    counts = zip(parsed["Elements"], parsed["nAtoms"], strict=True)
    return tuple((atomic_symbol(number), float(count)) for number, count in counts)


@lru_cache(maxsize=1)
def library() -> tuple[Compound, ...]:
    """Return the entries that ship with the package."""
    text = resources.files("bayesunmix.chemistry").joinpath("compounds.toml").read_text(encoding="utf-8")
    return read_compounds(tomllib.loads(text), "compounds.toml")


def with_own(own: Iterable[Compound]) -> tuple[Compound, ...]:
    """Return the library with a user's entries, which replace those of the same name."""
    given = {compound.name: compound for compound in own}
    return (*(one for one in library() if one.name not in given), *given.values())


def kinds_of(compounds: Iterable[Compound]) -> tuple[str, ...]:
    """Return the kinds of samples that entries occur in."""
    return tuple(dict.fromkeys(kind for one in compounds for kind in one.occurs_in))


def called(name: str, compounds: Sequence[Compound]) -> tuple[Compound, ...]:
    """Return the entries that a name or abbreviation stands for, several where it has several meanings, or a group's.

    Examples
    --------
    >>> [one.name for one in called("forsterite", library())], [one.name for one in called("Qz", library())]
    (['Olivine'], ['Quartz'])
    >>> [one.name for one in called("garnet", library())], len(called("pyroxene", library()))
    (['Garnet'], 10)
    """
    wanted = _key(name)
    if len(wanted) < 2 and wanted.isascii():
        # "A" or "P" is a letter that a user gave more often than the P phase.
        return ()
    found = tuple(one for one in compounds if wanted in {_key(known) for known in _names(one)})
    return found or tuple(one for one in compounds if wanted == _key(one.group))


def _names(compound: Compound) -> tuple[str, ...]:
    return (compound.name, *compound.also, *(one.name for one in compound.main))


def _key(name: str) -> str:
    """Write a name so that those that mean the same are the same; capitals of abbreviations count."""
    plain = " ".join(name.replace("-", " ").replace("_", " ").replace("′", "'").replace("’", "'").split())
    return plain if len(plain) <= _ABBREVIATION else plain.casefold()


def read_compounds(data: Mapping[str, Any], field: str) -> tuple[Compound, ...]:
    """Read the entries of a TOML file.

    Parameters
    ----------
    data
        As `tomllib` reads it: tables ``[[compound]]``, and ``[sources]`` by the words that entries use for them.
    field
        What the user knows the file as.

    Raises
    ------
    InputError
        If something in it cannot be used; the message names entry and key.
    """
    for key in data:
        if key not in ("compound", "sources"):
            got = f'holds "{key}"'
            raise InputError(field, "hold tables [[compound]] and [sources]", got, suggest(key, ["compound"]))
    entries, sources = data.get("compound"), data.get("sources", {})
    if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_ENTRIES:
        got = f"holds {len(entries)}" if isinstance(entries, list) else "holds none"
        raise InputError(field, f"hold 1 to {_MOST_ENTRIES} tables [[compound]]", got)
    if not isinstance(sources, Mapping):
        raise InputError(f"{field}.sources", "be a table", f"is {shown(sources)}")
    read = tuple(_compound(entry, sources, field, number) for number, entry in enumerate(entries, 1))
    names = [one.name for one in read]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(field, "name each compound once", f"repeats {shown(repeated)}")
    return read


def _compound(entry: object, sources: Mapping[str, Any], field: str, number: int) -> Compound:
    if not isinstance(entry, Mapping):
        raise InputError(f"{field}.compound[{number}]", "be a table", f"is {shown(entry)}")
    name = entry.get("name")
    where = f"{field}.{name}" if isinstance(name, str) and name else f"{field}.compound[{number}]"
    for key in entry:
        if key not in _KEYS:
            raise InputError(
                f"{where}.{key}", f"be one of {', '.join(_KEYS)}", "is unknown", suggest(key, _KEYS)
            )
    for key in ("name", "formula"):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise InputError(f"{where}.{key}", "be a text", f"is {shown(entry.get(key, 'missing'))}")
        if not entry[key].isprintable():
            raise InputError(f"{where}.{key}", "be a text of one line", f"is {shown(entry[key])}")
    if name == NONE_OF_THESE:
        raise InputError(
            f"{where}.name", "be a name of its own", f'is "{NONE_OF_THESE}", which has another meaning'
        )
    given = check_text(f"{where}.source", entry.get("source", ""))
    return Compound(
        name=str(name),
        formula=entry["formula"],
        endmembers=_endmembers(entry, where),
        group=check_text(f"{where}.group", entry.get("group", "")),
        also=_texts(f"{where}.also", entry.get("also", [])),
        tolerance=check_between(f"{where}.tolerance", entry.get("tolerance", TOLERANCE), 0.001, 0.5),
        weight=check_between(f"{where}.weight", entry.get("weight", 1.0), 0.001, 100.0),
        occurs_in=_texts(f"{where}.occurs_in", entry.get("occurs_in", [])),
        source=str(sources.get(given, given)),
    )


def _endmembers(entry: Mapping[str, Any], where: str) -> tuple[Endmember, ...]:
    """Read main and minor end members; a formula alone is its own."""
    main = entry.get("endmembers", {entry["name"]: entry["formula"]})
    minor = entry.get("minor", {})
    for key, table, example in (("endmembers", main, _EXAMPLE), ("minor", minor, "{Ca2SiO4 = 0.03}")):
        if (
            not isinstance(table, Mapping)
            or len(table) > _MOST_ENDMEMBERS
            or (key == "endmembers" and not table)
        ):
            raise InputError(f"{where}.{key}", f"be a table such as {example}", f"is {shown(table)}")
    field = "formula" if "endmembers" not in entry else "endmembers"
    found = [
        Endmember(name=str(name), formula=str(formula), atoms=formula_atoms(formula, f"{where}.{field}"))
        for name, formula in main.items()
    ]
    for formula, limit in minor.items():
        share = check_between(f"{where}.minor.{formula}", limit, 0.0, 1.0)
        atoms = formula_atoms(formula, f"{where}.minor")
        found.append(Endmember(name=formula, formula=formula, atoms=atoms, limit=share))
    return tuple(found)


def _texts(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(field, "be a list of texts", f"is {shown(value)}")
    return tuple(check_text(field, one) for one in value)
