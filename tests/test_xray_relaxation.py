"""Relaxation: every hole is filled once, the cascade is linear, and the gaps of the source are filled."""

from collections.abc import Callable

import numpy as np
import pytest
import xraylib

from bayesunmix.xray import LineTable
from bayesunmix.xray.atomic import SHELLS, atomic_number, atomic_symbol
from bayesunmix.xray.evaluated import LIGHT_LANTHANIDE_M
from bayesunmix.xray.ionisation import edge_energy_keV
from bayesunmix.xray.relaxation import (
    branching,
    coster_kronig,
    fluorescence_yield,
    line_energy_keV,
    transfer,
    vacancies,
)


@pytest.mark.parametrize("element", ["Mg", "Fe", "Zr", "Nd", "Lu", "Pt", "U"])
def test_branching_adds_up_to_one(element: str) -> None:
    for shell in SHELLS:
        shares = branching(element, shell)
        if shares:
            assert 0.96 < sum(shares.values()) < 1.01, shell


@pytest.mark.parametrize("element", ["Fe", "Nd", "U"])
def test_an_l3_hole_moves_or_ends(element: str) -> None:
    """A hole in L3 becomes at most two in M: one per photon, two per Auger process."""
    holes = transfer(element, "L3")
    assert set(holes) == {"M1", "M2", "M3", "M4", "M5"}
    assert 0.0 < sum(holes.values()) <= 2.0


def test_one_k_hole_by_hand() -> None:
    """Iron: L3 holes from K-alpha1, from K-L3X Auger processes (twice for K-L3L3), and from L1 and L2."""
    iron = 26
    auger = 0.0
    for name in dir(xraylib):
        if name.startswith("K_") and name.endswith("_AUGER") and "L3" in name:
            try:
                auger += name.count("L3") * xraylib.AugerRate(iron, getattr(xraylib, name))
            except ValueError:
                continue
    direct = fluorescence_yield("Fe", "K") * branching("Fe", "K")["KL3"]
    direct += (1.0 - fluorescence_yield("Fe", "K")) * auger
    holes = vacancies("Fe", {"K": 1.0})
    radiative = fluorescence_yield("Fe", "L1") * branching("Fe", "L1").get("L1L3", 0.0)
    moved = holes["L1"] * (coster_kronig("Fe", "L1")["L3"] + radiative)
    moved += holes["L2"] * coster_kronig("Fe", "L2")["L3"]
    assert holes["L3"] == pytest.approx(direct + moved, rel=1e-3)


def test_cascade_is_linear() -> None:
    one, two = vacancies("Hf", {"L1": 1.0}), vacancies("Hf", {"M3": 1.0})
    both = vacancies("Hf", {"L1": 2.0, "M3": 3.0})
    for shell in SHELLS:
        assert both[shell] == pytest.approx(2.0 * one[shell] + 3.0 * two[shell], rel=1e-12)


def test_k_yields_are_the_known_ones() -> None:
    """Krause (1979), doi:10.1063/1.555594: 0.050 for Si, 0.340 for Fe, 0.440 for Cu, to 5 %."""
    for element, value in {"Si": 0.050, "Fe": 0.340, "Cu": 0.440}.items():
        assert fluorescence_yield(element, "K") == pytest.approx(value, rel=0.05)


def test_light_lanthanides_have_m_alpha_and_beta() -> None:
    energies = []
    for element in ("La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu"):
        shares = branching(element, "M5")
        assert shares["M5N7"] + shares["M5N6"] > 0.4
        assert branching(element, "M4")["M4N6"] > 0.35
        assert fluorescence_yield(element, "M5") > 0.0
        energies.append((line_energy_keV(element, "M5N7"), line_energy_keV(element, "M4N6")))
    # Promethium lies on the curve of its measured neighbours, and gadolinium (xraylib's) continues it.
    energies.append((line_energy_keV("Gd", "M5N7"), line_energy_keV("Gd", "M4N6")))
    assert np.all(np.abs(np.diff(energies, 2, axis=0)) < 0.012)
    assert len(LIGHT_LANTHANIDE_M) == 7


def test_the_4f_share_grows_with_the_4f_electrons() -> None:
    shares = [
        sum(share for line, share in branching(element, "M5").items() if line in ("M5N6", "M5N7"))
        for element in ("Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd")
    ]
    assert np.all(np.diff(shares) > -1e-9)


@pytest.mark.parametrize("shell", ["M1", "M2", "M3", "M4", "M5"])
def test_m_yields_have_no_jumps(shell: str) -> None:
    """From element to element they rise by less than a half; those of M4 and M5 double where 4f electrons come."""
    yields = np.array([fluorescence_yield(atomic_symbol(number), shell) for number in range(37, 93)])
    steps = yields[1:] / yields[:-1]
    numbers = np.arange(38, 93)
    first_4f = (numbers == 57) & (shell in ("M4", "M5"))
    assert np.all((steps[~first_4f] > 0.95) & (steps[~first_4f] < 1.5))
    assert np.all((steps[first_4f] > 2.0) & (steps[first_4f] < 3.0))


def test_m_yields_are_those_of_relativistic_calculations() -> None:
    """Chen, Crasemann, Mark (1980, doi:10.1103/PhysRevA.21.449; 1983, doi:10.1103/PhysRevA.27.2989), to 15 %."""
    chen = {
        "Bi": (0.003064, 0.004676, 0.006542, 0.033, 0.031),
        "U": (0.00573, 0.00838, 0.0130, 0.050, 0.045),
    }
    for element, expected in chen.items():
        yields = [fluorescence_yield(element, f"M{index}") for index in range(1, 6)]
        assert yields == pytest.approx(expected, rel=0.15), element


def test_lines_of_outermost_electrons_have_energies() -> None:
    """Calcium's 4s electrons fill a hole with the energy of its edge; osmium's 5d fit between the neighbours'."""
    assert line_energy_keV("Ca", "L3N1") == pytest.approx(edge_energy_keV("Ca", "L3"), abs=0.010)
    neighbours = [line_energy_keV(element, "L2O4") for element in ("Re", "Ir")]
    assert line_energy_keV("Os", "L2O4") == pytest.approx(np.mean(neighbours), abs=0.010)
    # Bearden (1967): uranium L-beta5 at 17.070 keV. There is no 6p electron below thallium.
    assert line_energy_keV("U", "L3O45") == pytest.approx(17.070, abs=0.010)
    assert line_energy_keV("Au", "M3P2") == 0.0


def test_m_lines_of_the_4d_metals_follow_the_4d_electrons() -> None:
    """Rubidium has no 4d electron, palladium has ten and no 5s electron; the shares always add up to one."""
    assert "M3N5" not in branching("Rb", "M3")
    assert "M3O1" not in branching("Pd", "M3")
    shares = [branching(element, "M3")["M3N5"] for element in ("Y", "Zr", "Nb", "Mo", "Ru", "Rh", "Pd")]
    assert np.all(np.diff(shares) > 0.0)
    assert sum(branching("Ag", "M3").values()) == pytest.approx(1.0)
    # Bearden (1967): silver M-zeta at 0.3117 keV.
    assert line_energy_keV("Ag", "M5N3") == pytest.approx(0.3117, abs=0.002)


def test_m_coster_kronig_has_no_holes_in_the_lanthanides() -> None:
    for element in ("La", "Nd", "Gd", "Dy", "Ho", "Tm", "Yb", "Lu"):
        moves = coster_kronig(element, "M3")
        assert 0.6 < moves["M5"] < 0.8
    for element in ("Nd", "Sm", "Gd", "Ho", "Tm", "Lu"):
        assert coster_kronig(element, "M4")["M5"] > 0.2


def test_unknown_line_has_no_energy() -> None:
    assert line_energy_keV("Mg", "L3M5") == 0.0


@pytest.mark.parametrize("shell", ["L2", "L3"])
def test_yields_of_l_shells_are_in_line_with_their_neighbours(shell: str) -> None:
    """One that is off by a tenth, as single experiments are, stands out from the two before and the two behind."""
    numbers = np.arange(30, 93)
    log_yield = np.log([fluorescence_yield(atomic_symbol(z), shell) for z in numbers.tolist()])
    beside = np.array([-2, -1, 1, 2])
    for i in range(2, len(numbers) - 2):
        expected = np.polyfit(beside, log_yield[i + beside], 2)[-1]
        assert abs(log_yield[i] - expected) < 0.05, atomic_symbol(int(numbers[i]))


def out_of_line(values: Callable[[str], float], first: int, last: int) -> dict[str, float]:
    """By how much the logarithm at each element is off a parabola through the two before and the two behind."""
    numbers, beside = range(first - 2, last + 3), np.array([-2, -1, 1, 2])
    log = np.log([values(atomic_symbol(number)) for number in numbers])
    return {
        atomic_symbol(numbers[i]): abs(float(log[i] - np.polyfit(beside, log[i + beside], 2)[-1]))
        for i in range(2, len(numbers) - 2)
    }


def ratio(shell: str, above: tuple[str, ...], below: tuple[str, ...]) -> Callable[[str], float]:
    """Ratio of lines that fill a sub-shell from electrons of other shells."""

    def of(element: str) -> float:
        shares = branching(element, shell)
        over, under = (
            sum(share for line, share in shares.items() if line[len(shell) :].startswith(donors))
            for donors in (above, below)
        )
        return over / under

    return of


def test_yields_of_k_are_in_line_with_their_neighbours() -> None:
    assert max(out_of_line(lambda element: fluorescence_yield(element, "K"), 6, 90).values()) < 0.005


def test_k_beta_is_in_line_with_the_neighbours() -> None:
    """Chromium and copper have an electron less in 4s as free atoms, and stand out by 3 %."""
    off = out_of_line(ratio("K", ("M", "N", "O", "P"), ("L",)), 22, 90)
    assert max(off.values()) < 0.04
    assert max(value for element, value in off.items() if atomic_number(element) > 29) < 0.01


@pytest.mark.parametrize(
    ("shell", "first", "limit"),
    [("M1", 39, 0.1), ("M2", 39, 0.08), ("M3", 39, 0.08), ("M4", 60, 0.06), ("M5", 60, 0.06)],
)
def test_yields_of_m_shells_are_in_line_with_their_neighbours(shell: str, first: int, limit: float) -> None:
    """M4 and M5 from neodymium on: before, 4f electrons come in."""
    assert max(out_of_line(lambda element: fluorescence_yield(element, shell), first, 90).values()) < limit


@pytest.mark.parametrize(
    ("shell", "above", "below", "first"),
    [
        ("L3", ("N4", "N5"), ("M4", "M5"), 46),
        ("M2", ("N1",), ("N4",), 47),
        ("M3", ("N1",), ("N5",), 47),
        ("M4", ("N2",), ("N6",), 66),
        ("M5", ("N3",), ("N6", "N7"), 66),
    ],
)
def test_lines_of_a_sub_shell_are_in_line_with_their_neighbours(
    shell: str, above: tuple[str, ...], below: tuple[str, ...], first: int
) -> None:
    """Two sources meet without a step, M4 at hafnium and M5 at osmium."""
    assert max(out_of_line(ratio(shell, above, below), first, 90).values()) < 0.06


def test_holes_of_l2_in_the_3d_metals_end_as_those_of_l3_where_they_do_not_move() -> None:
    """A yield that is low because holes move to L3 and a probability of moving belong together."""
    for number in range(22, 40):
        element = atomic_symbol(number)
        stay = 1.0 - coster_kronig(element, "L2")["L3"]
        same = fluorescence_yield(element, "L2") / stay
        assert same == pytest.approx(fluorescence_yield(element, "L3"), rel=0.12), element


def test_l_beta2_is_that_of_measurements() -> None:
    """Elam, Ravel and Sieber (2002) after Salem, Panossian and Krause (1974), doi:10.1016/S0092-640X(74)80017-3."""
    for element, measured in {
        "Pd": 0.1065,
        "Ag": 0.1187,
        "Sn": 0.1486,
        "Xe": 0.1749,
        "Pb": 0.2234,
        "U": 0.2379,
    }.items():
        assert ratio("L3", ("N4", "N5"), ("M4", "M5"))(element) == pytest.approx(measured, rel=0.04), element


@pytest.mark.parametrize("shell", SHELLS)
def test_no_hole_ends_twice(shell: str) -> None:
    for number in range(4, 96):
        element = atomic_symbol(number)
        ended = fluorescence_yield(element, shell) + sum(coster_kronig(element, shell).values())
        assert ended < 1.0 + 1e-9, element


@pytest.mark.parametrize("element", ["Sn", "Sb", "W", "Re"])
@pytest.mark.parametrize("shell", ["L1", "L2", "L3"])
def test_a_hole_ends_somewhere(element: str, shell: str) -> None:
    """A photon, a Coster-Kronig transition or an Auger process fills it; in L an Auger process leaves two beyond L."""
    photon, moved = fluorescence_yield(element, shell), sum(coster_kronig(element, shell).values())
    beyond = {outer: holes for outer, holes in transfer(element, shell).items() if outer[0] == "M"}
    assert 0.0 < photon + moved < 1.0
    assert sum(beyond.values()) < photon + 2.0 * (1.0 - photon - moved)


def test_rhenium_stands_between_tungsten_and_osmium() -> None:
    table = LineTable.built_in(200.0)
    low, middle, high = (
        sum(line.strength for line in table.lines(element, "L")) for element in ("W", "Re", "Os")
    )
    assert middle == pytest.approx(0.5 * (low + high), rel=0.02)
