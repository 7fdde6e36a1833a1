"""What other tables say of relaxation: yields, Coster-Kronig probabilities, lines' shares and energies.

Read from two packages, `pip install xraydb fisx`:

* Elam: Elam, Ravel and Sieber (2002, doi:10.1016/S0969-806X(01)00227-4), in xraydb. Left out: K yields below
  titanium, which jump from element to element (C -46 %, Ne +10 %, Ca -6 %); K-beta below calcium, an eighth of
  K-alpha for all; M yields, those of xraylib that `bayesunmix.xray.evaluated` shows to be wrong; M lines, of which
  there are four.
* EADL: the Evaluated Atomic Data Library of 1991 (doi:10.2172/10121422), calculated throughout, in fisx. Left out:
  K-beta, without the exchange that raises it by a tenth in 3d metals (Scofield 1974, doi:10.1103/PhysRevA.9.1041,
  whose ratios are ours); lines of L from M1 and N1 below hafnium, several times those of all others; M4 and M5
  lines below hafnium, where it has the 4f shell of a free atom; M4 and M5 yields of lanthanum, where it has no 4f
  electron.
* Chen: Chen, Crasemann and Mark, relativistic calculations of L (1981, doi:10.1103/PhysRevA.24.177) and M shells
  (1980, doi:10.1103/PhysRevA.21.449; 1983, doi:10.1103/PhysRevA.27.2989), in fisx. Of M only where they were
  calculated.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayesunmix.xray.atomic import SHELLS, atomic_number, atomic_symbol
from bayesunmix.xray.relaxation import branching, coster_kronig, fluorescence_yield, line_energy_keV

LIGHTEST, HEAVIEST = 4, 92
# Yields of an atom without 4f electron, which a 3d hole draws in.
NO_4F_ELECTRON = {("La", "M4"), ("La", "M5")}
CALCIUM, TITANIUM, HOLMIUM, HAFNIUM = 20, 22, 67, 72
_SECTION = re.compile(r"^#S \d+ ([KLM][1-5]?)\b")

Shares = dict[str, float]


@dataclass(frozen=True)
class Source:
    """One table of relaxation data; what it lacks is missing from it.

    Parameters
    ----------
    name
        Of the source.
    yields
        Fluorescence yields, keyed (symbol, sub-shell).
    moves
        Coster-Kronig probabilities: (symbol, sub-shell) to the sub-shell the hole moves to.
    shares
        Lines in the photons that fill a hole, adding up to 1: (symbol, sub-shell) to the electron's shell.
    energies
        Of lines in keV, keyed (symbol, line); only where they are measured or follow from measured levels.
    """

    name: str
    yields: dict[tuple[str, str], float]
    moves: dict[tuple[str, str], Shares]
    shares: dict[tuple[str, str], Shares]
    energies: dict[tuple[str, str], float]


def sources() -> tuple[Source, ...]:
    """Return our table first, then the others.

    Raises
    ------
    SystemExit
        If a package is missing.
    """
    return ours(), elam(), *of_fisx()


def symbols() -> list[str]:
    """Return the elements compared, Be to U."""
    return [atomic_symbol(number) for number in range(LIGHTEST, HEAVIEST + 1)]


def ours() -> Source:
    """Return what the built-in line table is calculated from."""
    found = Source("table", {}, {}, {}, {})
    for element in symbols():
        for shell in SHELLS:
            key = element, shell
            if (value := fluorescence_yield(element, shell)) > 0.0:
                found.yields[key] = value
                found.moves[key] = coster_kronig(element, shell)
                found.shares[key] = _normalised(
                    {line[len(shell) :]: share for line, share in branching(element, shell).items()}
                )
                for line in branching(element, shell):
                    if (energy := line_energy_keV(element, line)) > 0.0:
                        found.energies[element, line] = energy
    return found


def elam() -> Source:
    """Return Elam, Ravel and Sieber (2002) without its M yields and M lines."""
    xraydb = _package("xraydb")
    found = Source("Elam", {}, {}, {}, {})
    for element in symbols():
        for shell, edge in xraydb.xray_edges(element).items():
            jumps = shell == "K" and atomic_number(element) < TITANIUM
            if shell in SHELLS and shell[0] != "M" and not jumps and edge.fyield > 0.0:
                found.yields[element, shell] = edge.fyield
        for shell in SHELLS:
            moves = {}
            for outer in SHELLS[SHELLS.index(shell) + 1 :]:
                if outer[0] == shell[0]:
                    moves[outer] = xraydb.ck_probability(element, shell, outer, total=False) or 0.0
            found.moves[element, shell] = moves
        for line in xraydb.xray_lines(element).values():
            hole, electron = line.initial_level, line.final_level
            if hole in SHELLS and hole[0] != "M" and not (hole == "K" and atomic_number(element) < CALCIUM):
                found.shares.setdefault((element, hole), {})[electron.replace(",", "")] = line.intensity
            if "," not in electron:
                found.energies[element, hole + electron] = 1e-3 * line.energy
    return Source(
        found.name,
        found.yields,
        found.moves,
        {k: _normalised(v) for k, v in found.shares.items()},
        found.energies,
    )


def of_fisx() -> Iterator[Source]:
    """Give the Evaluated Atomic Data Library, and Chen, Crasemann and Mark."""
    folder = Path(_package("fisx").__file__).parent / "fisx_data"
    yields, moves = _constants(folder, "EADL97_")
    yields = {key: value for key, value in yields.items() if key not in NO_4F_ELECTRON}
    shares = {}
    for family in "KLM":
        for (element, shell), row in _specfile(folder / f"EADL97_{family}ShellRadiativeRates.dat").items():
            light = atomic_number(element) < HAFNIUM
            rates = {name[len(shell) :]: rate for name, rate in row.items() if name != "TOTAL" and rate > 0.0}
            if light and family == "L":
                rates = {donor: rate for donor, rate in rates.items() if donor not in ("M1", "N1")}
            if rates and family != "K" and not (light and shell in ("M4", "M5")):
                shares[element, shell] = _normalised(rates)
    yield Source("EADL", yields, moves, shares, {})
    yields, moves = _constants(folder, "")
    keep = {key for key in yields if key[1][0] == "L" or atomic_number(key[0]) >= HOLMIUM}
    keep = {key for key in keep if key[1][0] != "K"}
    yield Source("Chen", {k: yields[k] for k in keep}, {k: moves[k] for k in keep if k[1][0] == "L"}, {}, {})


def _constants(
    folder: Path, prefix: str
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], Shares]]:
    """Return yields and Coster-Kronig probabilities of one set of files."""
    yields, moves = {}, {}
    for family in "KLM":
        for (element, shell), row in _specfile(folder / f"{prefix}{family}ShellConstants.dat").items():
            if (value := row[f"omega{shell}"]) > 0.0:
                yields[element, shell] = value
                moves[element, shell] = {
                    f"{family}{name[2]}": row[name] for name in row if re.fullmatch(r"f\d\d", name)
                }
    return yields, moves


def _specfile(path: Path) -> dict[tuple[str, str], Shares]:
    """Read the tables of a file: (symbol, sub-shell) to the columns' values."""
    found, shell, columns = {}, "", [""]
    for line in path.read_text(encoding="latin-1").splitlines():
        if match := _SECTION.match(line):
            shell = match[1]
        elif line.startswith("#L"):
            columns = line.split()[2:]
        elif line[:1].isdigit():
            number, *values = line.split()
            if LIGHTEST <= int(number) <= HEAVIEST:
                found[atomic_symbol(int(number)), shell] = dict(zip(columns, map(float, values), strict=True))
    return found


def _normalised(shares: Shares) -> Shares:
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def _package(name: str) -> Any:  # noqa: ANN401
    try:
        return importlib.import_module(name)
    except ImportError:
        raise SystemExit(f"line_sources needs the package {name}: pip install xraydb fisx") from None
