"""Names of the units of composition, apart from the tables that converting needs: those load slowly."""

from bayesunmix.core.errors import InputError

UNITS = ("at_frac", "wt_pct", "oxide_wt_pct", "apfu")
UNIT_TEXTS = {
    "at_frac": "at%",
    "wt_pct": "wt%",
    "oxide_wt_pct": "oxide wt%",
    "apfu": "cations per formula unit",
}
"""What a reader reads; atom fractions are shown in per cent."""

OXYGEN_UNITS = ("oxide_wt_pct", "apfu")
"""Units that count the oxygen of the cations."""


def check_oxygen_unit(unit: str, oxygen: str, field: str = "unit") -> None:
    """Refuse a unit that counts oxygen for a sample that has none."""
    if unit in OXYGEN_UNITS and oxygen == "none":
        others = ", ".join(name for name in UNITS if name not in OXYGEN_UNITS)
        raise InputError(field, f'be one of {others} where `sample.oxygen` is "none"', f'is "{unit}"')
