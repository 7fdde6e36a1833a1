"""Compare the tables of atomic data, element by element: print what stands out, and write what they differ by.

    pip install xraydb fisx
    python benchmarks/line_sources.py [--write] [--beam 200]

Compared are fluorescence yields and Coster-Kronig probabilities of all K, L and M sub-shells, strengths of families,
strengths of line groups to each other, shares of lines inside a sub-shell and energies, from Be to U, between our
table and the sources of `relaxation_sources`; and of our table every yield with those of the elements beside it. The
holes that the beam makes, and those that come from further in, are ours for all.

``--write`` writes `bayesunmix/xray/line_spread.json`, from which widths of priors come, and prints the table of
`docs/lines.md`. The width is the standard deviation of the sources' logarithms, ours among them, but at
least the median over the two elements on either side: sources may agree by accident.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
from relaxation_sources import Shares, Source, sources, symbols

from bayesunmix.xray.atomic import FAMILIES, SHELLS, atomic_number
from bayesunmix.xray.ionisation import ionisation_cross_section, shells
from bayesunmix.xray.lines import LOWEST_LINE_KEV, LineTable, line_group
from bayesunmix.xray.relaxation import coster_kronig, transfer
from bayesunmix.xray.spread import _table

TARGET = Path(__file__).resolve().parents[1] / "bayesunmix" / "xray" / "line_spread.json"
# Relative differences, from which on they are printed.
YIELD_OFF, MOVE_OFF, SHARE_OFF, ENERGY_OFF_KEV, LEAST_SHARE = 0.25, 0.1, 0.25, 0.02, 0.02
OUT_OF_LINE = 0.05
# Yields that were copied: Elam's of L are Krause's, as xraylib's are, and ours of M are EADL's.
COPIES = {("Elam", "L"), ("EADL", "M")}
# Where there is one source, sub-shells may be off by what they are off by in the next elements that have two.
SINGLE_SOURCE_SD = {"K": 0.3, "L": 0.3, "M": 0.15}
BESIDE = 2
RANGES = (
    ("C", "Ne"),
    ("Na", "Ar"),
    ("K", "Zn"),
    ("Ga", "Zr"),
    ("Nb", "Xe"),
    ("Cs", "Lu"),
    ("Hf", "Hg"),
    ("Tl", "U"),
)
# Widths that are off the median of their range by so much of it, and at least by so much, are listed singly.
APART, APART_LEAST = 0.25, 0.02
REFERENCE = {"K": "alpha", "L": "L3", "M": "M5"}
PROVENANCE = (
    "Standard deviations of the logarithms of what sources of atomic data give: strengths of line families, and of "
    "line groups to K-alpha, L3 and M5, at 200 keV. Made by benchmarks/line_sources.py from xraydb 4.5.8 (Elam, Ravel, "
    "Sieber 2002, doi:10.1016/S0969-806X(01)00227-4) and fisx 1.3.2 (EADL 1991, doi:10.2172/10121422; Chen, "
    "Crasemann, Mark 1980, 1981, 1983, doi:10.1103/PhysRevA.21.449, 24.177, 27.2989)."
)

Spreads = dict[str, dict[str, float]]


def families(element: str) -> list[str]:
    """Return the families with a line above the lowest energy of the line table."""
    table = LineTable.built_in(200.0, [element])
    return [family for family in FAMILIES if table.entries and table.lines(element, family)]


def groups(source: Source, ours: Source, element: str, family: str, beam_keV: float) -> Shares:
    """Return the photons of the line groups of a family: alpha and beta, or the sub-shells with the hole.

    What a source lacks but for yields is ours; empty where it has no yields, and no shares of K lines.
    """
    own = [shell for shell in SHELLS if shell[0] == family and (element, shell) in ours.yields]
    if family == "K" and (element, "K") in source.shares.keys() | source.yields.keys():
        photons = _primary(element, "K", beam_keV) * source.yields.get(
            (element, "K"), ours.yields[element, "K"]
        )
        lines = source.shares.get((element, "K"), ours.shares[element, "K"])
        alpha = sum(share for donor, share in lines.items() if donor[0] == "L")
        return {"alpha": photons * alpha, "beta": photons * (1.0 - alpha)}
    if not all((element, shell) in source.yields for shell in own):
        return {}
    holes = _arriving(element, family, beam_keV)
    for shell in own:
        moves = source.moves.get((element, shell), ours.moves[element, shell])
        for outer, probability in moves.items():
            if outer in holes:
                holes[outer] += holes[shell] * probability
    return {shell: holes[shell] * source.yields[element, shell] for shell in own}


def _primary(element: str, shell: str, beam_keV: float) -> float:
    return float(ionisation_cross_section(element, shell, beam_keV)) if shell in shells(element) else 0.0


def _arriving(element: str, family: str, beam_keV: float) -> Shares:
    """Return the holes of the sub-shells of a family before any moves inside it."""
    holes = {shell: _primary(element, shell, beam_keV) for shell in SHELLS}
    for shell in SHELLS:
        if shell[0] != family:
            inside = coster_kronig(element, shell)
            for outer, probability in transfer(element, shell).items():
                if outer[0] != shell[0] or shell[0] != family:
                    holes[outer] += holes[shell] * (probability if outer not in inside else inside[outer])
    return {shell: holes[shell] for shell in SHELLS if shell[0] == family}


def independent(every: tuple[Source, ...], element: str, family: str) -> list[Source]:
    """Return the sources that have yields of their own of all sub-shells of a family, ours first."""
    own = [key for key in every[0].yields if key[0] == element and key[1][0] == family]
    return [s for s in every if (s.name, family) not in COPIES and all(key in s.yields for key in own)]


def spreads(every: tuple[Source, ...], beam_keV: float) -> tuple[Spreads, Spreads]:
    """Return what sources differ by: strengths of families, and of line groups to the family's reference."""
    strength: Spreads = {}
    ratio: Spreads = {}
    for element in symbols():
        for family in families(element):
            # Copied yields say nothing of strengths; what moves between sub-shells does, of their ratios.
            known = independent(every, element, family)
            width = _sd([sum(groups(s, every[0], element, family, beam_keV).values()) for s in known])
            single = SINGLE_SOURCE_SD[family] if len(known) == 1 else 0.0
            strength.setdefault(element, {})[family] = math.hypot(width, single)
            found = [one for s in every if (one := groups(s, every[0], element, family, beam_keV))]
            for group in found[0]:
                if group != REFERENCE[family] and all(one[REFERENCE[family]] > 0.0 for one in found):
                    values = [one[group] / one[REFERENCE[family]] for one in found]
                    if min(values) > 0.0:
                        ratio.setdefault(element, {})[group] = math.hypot(_sd(_once(values)), single)
    return _not_by_accident(strength), _not_by_accident(ratio)


def _once(values: list[float]) -> list[float]:
    """Return values without copies of the first."""
    return values[:1] + [value for value in values[1:] if abs(math.log(value / values[0])) > 1e-3]


def _sd(values: list[float]) -> float:
    return float(np.std(np.log(values), ddof=1)) if len(values) > 1 else 0.0


def _not_by_accident(found: Spreads) -> Spreads:
    """Return the larger of each spread and the median of those around it."""
    elements = symbols()
    wider: Spreads = {}
    for element, own in found.items():
        at = elements.index(element)
        around = elements[max(at - BESIDE, 0) : at + BESIDE + 1]
        for key, value in own.items():
            near = [found[other][key] for other in around if key in found.get(other, {})]
            wider.setdefault(element, {})[key] = round(max(value, float(np.median(near))), 3)
    return wider


def outliers(every: tuple[Source, ...]) -> Iterator[str]:
    """Give in words what of our table differs from the others, or from the elements beside it."""
    ours = every[0]
    for (element, shell), value in ours.yields.items():
        others = {s.name: s.yields[element, shell] for s in every[1:] if (element, shell) in s.yields}
        if others and all(abs(math.log(other / value)) > YIELD_OFF for other in others.values()):
            yield f"yield {element} {shell}: {value:.4g}, " + _listed(others)
        for outer, probability in ours.moves[element, shell].items():
            moves = {
                s.name: s.moves[element, shell].get(outer, 0.0)
                for s in every[1:]
                if (element, shell) in s.moves
            }
            if moves and all(abs(other - probability) > MOVE_OFF for other in moves.values()):
                yield f"Coster-Kronig {element} {shell}-{outer}: {probability:.3f}, " + _listed(moves)
        for donor, share in ours.shares[element, shell].items():
            shares = {
                s.name: s.shares[element, shell].get(donor) for s in every[1:] if (element, shell) in s.shares
            }
            known = {name: other for name, other in shares.items() if other}
            if (
                known
                and share > LEAST_SHARE
                and all(abs(math.log(v / share)) > SHARE_OFF for v in known.values())
            ):
                yield f"share {element} {shell}{donor}: {share:.4f}, " + _listed(known)
    for (element, line), energy in every[1].energies.items():
        here = ours.energies.get((element, line), 0.0)
        if here > LOWEST_LINE_KEV and abs(energy - here) > ENERGY_OFF_KEV:
            yield f"energy {element} {line}: {here:.4f} keV, {every[1].name} {energy:.4f}"
    for shell in SHELLS:
        for element, off in out_of_line(lambda e, shell=shell: ours.yields.get((e, shell), 0.0)):
            yield f"yield {element} {shell}: {off:+.1%} off the elements beside it"


def _listed(others: Shares) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in others.items())


def out_of_line(values: Callable[[str], float]) -> Iterator[tuple[str, float]]:
    """Give elements that a parabola of the logarithm through the two before and the two behind does not meet."""
    elements, beside = symbols(), np.array([-2, -1, 1, 2])
    for at in range(2, len(elements) - 2):
        near = np.array([values(elements[at + step]) for step in (-2, -1, 0, 1, 2)])
        if near.min() > 0.0:
            log = np.log(near)
            off = float(log[2] - np.polyfit(beside, log[[0, 1, 3, 4]], 2)[-1])
            if abs(off) > OUT_OF_LINE:
                yield elements[at], off


def tables() -> Iterator[str]:
    """Give the table of the documentation, line by line: widths of priors in percent, outlying elements singly."""
    table = LineTable.built_in(200.0, symbols())
    yield "| elements | K | L | M | K-beta | L1 | L2 | M1 | M2 | M3 | M4 |"
    yield "|" + " --- |" * 11
    for first, last in RANGES:
        inside = [e for e in symbols() if atomic_number(first) <= atomic_number(e) <= atomic_number(last)]
        cells = [
            _cell({e: table.calibration_sd(e, family) for e in inside if table.lines(e, family)})
            for family in FAMILIES
        ]
        for group in ("beta", "L1", "L2", "M1", "M2", "M3", "M4"):
            family = "K" if group == "beta" else group[0]
            emitting = [e for e in inside if group in {line_group(line) for line in table.lines(e, family)}]
            cells.append(_cell({e: table.ratio_sd(e, family, group, REFERENCE[family]) for e in emitting}))
        yield f"| {first} to {last} | " + " | ".join(cells) + " |"


def _cell(widths: Shares) -> str:
    """Return the median in percent, and the elements whose width is a quarter and 2 percent off it."""
    if not widths:
        return ""
    middle = float(np.median(list(widths.values())))
    singly = [
        f"{element} {100.0 * width:.0f}"
        for element, width in widths.items()
        if abs(width - middle) > max(APART * middle, APART_LEAST)
    ]
    return f"{100.0 * middle:.0f}" + (f" ({', '.join(singly)})" if singly else "")


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--write", is_flag=True, help="Write the spreads, and print the table of the documentation.")
@click.option(
    "--beam", type=click.FloatRange(1.0), default=200.0, help="Energy of the electrons in keV [200]."
)
def main(write: bool, beam: float) -> None:
    """Compare, print, and write."""
    every = sources()
    for sentence in outliers(every):
        print(sentence)
    strength, ratio = spreads(every, beam)
    if write:
        rows = [
            f'"{element}": ' + json.dumps({"strength": strength[element], "ratio": ratio.get(element, {})})
            for element in strength
        ]
        text = f'{{"provenance": {json.dumps(PROVENANCE)},\n"elements": {{\n' + ",\n".join(rows) + "\n}}\n"
        TARGET.write_text(text, encoding="utf-8")
        _table.cache_clear()
        print(*tables(), sep="\n")


if __name__ == "__main__":
    main()
