"""Prior widths of lines: what sources differ by for each element, within what calculated k-factors are off by."""

import importlib
import json
import math
from collections.abc import Callable
from importlib import resources
from types import ModuleType

import pytest

from bayesunmix.xray.atomic import FAMILIES, atomic_symbol
from bayesunmix.xray.evaluated import LIGHT_LANTHANIDE_M
from bayesunmix.xray.lines import LineTable, line_group
from bayesunmix.xray.priors import DEFAULT_XRAY_PRIORS as PRIORS
from bayesunmix.xray.relaxation import fluorescence_yield
from bayesunmix.xray.spread import WIDEST_RATIO, ratio_spread, strength_spread

REFERENCE = {"K": "alpha", "L": "L3", "M": "M5"}
# Calculated k-factors: Williams and Carter (2009), chapter 35. C to Ne and 3d metals are less known.
KNOWN = {"K": (0.04, 0.07), "L": (0.10, 0.14), "M": (0.15, 0.22)}


@pytest.fixture(scope="module")
def table() -> LineTable:
    return LineTable.built_in(200.0)


def test_every_family_with_lines_has_a_spread(table: LineTable) -> None:
    text = resources.files("bayesunmix.xray").joinpath("line_spread.json").read_text(encoding="utf-8")
    spreads = json.loads(text)["elements"]
    for number in range(6, 93):
        element = atomic_symbol(number)
        for family in FAMILIES:
            lines = table.lines(element, family)
            if lines:
                assert family in spreads[element]["strength"], (element, family)
                groups = {line_group(line) for line in lines} - {REFERENCE[family]}
                # K-beta of the elements that have one from valence electrons has a width of its own.
                assert groups <= spreads[element]["ratio"].keys() | {"beta"}, (element, family)


def test_a_spread_by_hand() -> None:
    """Of silicon K there are two yields, ours and EADL's, 0.04758 (doi:10.2172/10121422)."""
    two = math.log(fluorescence_yield("Si", "K") / 0.04758) / math.sqrt(2.0)
    assert strength_spread("Si", "K") == pytest.approx(two, abs=0.001)


@pytest.mark.parametrize("family", FAMILIES)
def test_widths_are_those_of_calculated_k_factors(table: LineTable, family: str) -> None:
    low, high = KNOWN[family]
    first = {"K": 11, "L": 32, "M": 37}[family]
    for number in set(range(first, 93)) - (LIGHT_LANTHANIDE_M.keys() if family == "M" else set()):
        if table.lines(atomic_symbol(number), family):
            assert low <= table.calibration_sd(atomic_symbol(number), family) <= high, atomic_symbol(number)


def test_what_sources_do_not_agree_on_is_wide(table: LineTable) -> None:
    """Carbon's yield, and L of 3d metals, where holes move from L2 to L3 in the metal and not in the free atom."""
    assert table.calibration_sd("C", "K") > 0.25
    assert table.calibration_sd("O", "K") > 1.4 * table.calibration_sd("Si", "K")
    assert table.calibration_sd("Fe", "L") > 1.4 * table.calibration_sd("Zr", "L")
    assert table.ratio_sd("Cu", "L", "L2", "L3") > 3.0 * table.ratio_sd("Ag", "L", "L2", "L3")


def test_ratios_are_never_surer_than_what_sources_share(table: LineTable) -> None:
    for line in table.entries:
        group, reference = line_group(line), REFERENCE[line.family]
        if group != reference:
            sd = table.ratio_sd(line.element, line.family, group, reference)
            assert PRIORS.line_ratio_sd(line.family) <= sd < 0.6, line


def test_two_groups_are_as_far_apart_as_each_from_the_reference() -> None:
    both = ratio_spread("U", "L1", "L3"), ratio_spread("U", "L2", "L3")
    assert ratio_spread("U", "L1", "L2") == pytest.approx(math.hypot(*both))
    assert ratio_spread("U", "L2", "L1") == ratio_spread("U", "L1", "L2")
    assert ratio_spread("U", "L3", "L3") == 0.0


def test_no_ratio_is_wider_than_what_is_linear() -> None:
    """Of copper two sources have f23 0.01, and two 0.47: more than a factor of 1.5 in L2 to L3."""
    assert ratio_spread("Cu", "L2", "L3") == ratio_spread("Cu", "L1", "L2") == WIDEST_RATIO


def test_elements_beyond_those_compared_are_as_the_last_of_them() -> None:
    assert strength_spread("Am", "L") == strength_spread("U", "L") > 0.0
    assert strength_spread("Be", "K") == strength_spread("C", "K") > 0.2


def test_the_table_is_what_the_sources_give(load: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("xraydb")
    pytest.importorskip("fisx")
    compared = load("line_sources")
    strength, ratio = compared.spreads(load("relaxation_sources").sources(), 200.0)
    for element, families in strength.items():
        for family, value in families.items():
            assert strength_spread(element, family) == pytest.approx(value, abs=1e-3), (element, family)
        for group, value in ratio.get(element, {}).items():
            reference = "alpha" if group == "beta" else REFERENCE[group[0]]
            expected = pytest.approx(min(value, WIDEST_RATIO), abs=1e-3)
            assert ratio_spread(element, group, reference) == expected, (element, group)


def test_a_missing_package_is_named(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("relaxation_sources")

    def absent(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(SystemExit, match="xraydb: pip install xraydb fisx"):
        module.elam()
