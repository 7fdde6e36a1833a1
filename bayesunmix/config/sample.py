"""Table ``[sample]``: what the specimen is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import SkipValidation

from bayesunmix.config.validated import validated
from bayesunmix.config.values import Elements, Pair, mean_and_sd
from bayesunmix.core.errors import InputError

# Hydrogen and helium emit no X-rays.
WITHOUT_LINES = ("H", "He")
# Most lamellae prepared for STEM-EDS are 20 to 200 nm thick.
DEFAULT_THICKNESS_NM = (100.0, 50.0)
# Silicates and oxides have 2.6 to 5.9 g/cm3.
DEFAULT_DENSITY_G_CM3 = (4.0, 1.0)


Oxygen = Literal["stoichiometry", "measured", "none"]


def _usual_oxygen(given: Mapping[str, Sequence[str]]) -> Oxygen:
    return "measured" if "O" in given.get("elements", ()) else "stoichiometry"


@validated("sample")
@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Table ``[sample]``: what the specimen is made of.

    Parameters
    ----------
    elements
        Elements of the composition.
    stray
        Elements whose lines are fitted and that belong to no phase (grid, ion beam, column).
    oxygen
        ``stoichiometry``: not measured, each cation brings its own; ``measured``: from its line, and then O is one of
        the elements; ``none``: the sample has none. Left out, it is measured where O is one of the elements.
    thickness_nm
        Mean and sd of the film thickness, the mean from 0.1 nm to 0.1 mm; None for the default prior
        `DEFAULT_THICKNESS_NM`.
    density_g_cm3
        Mean and sd of the density, the mean from 0.01 to 50 g/cm3; None for the default prior `DEFAULT_DENSITY_G_CM3`.
    bulk_wt_pct
        What went into the sample, in weight per cent by element or oxide, each a number or [value, sd]: the mass
        balance is held against it.
    """

    elements: Elements
    stray: Elements = ()
    oxygen: Oxygen = field(default_factory=_usual_oxygen)  # type: ignore[arg-type]
    thickness_nm: Annotated[Pair, mean_and_sd(0.1, 100_000.0)] | None = None
    density_g_cm3: Annotated[Pair, mean_and_sd(0.01, 50.0)] | None = None
    # Checked below: a key may be an oxide of an element.
    bulk_wt_pct: Annotated[dict[str, float | tuple[float, float]], SkipValidation] | None = None

    def __post_init__(self) -> None:
        elements = self.elements
        if not elements:
            raise InputError("elements", "name at least one element", "is empty")
        both = [element for element in elements if element in self.stray]
        if both:
            raise InputError("stray", "name elements that are not in `sample.elements`", f"holds {both[0]}")
        if self.oxygen == "measured" and "O" not in elements:
            elements = (*elements, "O")
            object.__setattr__(self, "elements", elements)
        if self.oxygen != "measured" and "O" in elements:
            raise InputError(
                "elements",
                f'not hold O where `sample.oxygen` is "{self.oxygen}"',
                "holds O",
                'Remove it, or set `sample.oxygen` to "measured".',
            )
        lightless = [element for element in (*elements, *self.stray) if element in WITHOUT_LINES]
        if lightless:
            table = "elements" if lightless[0] in elements else "stray"
            raise InputError(table, "name elements with X-ray lines", f"holds {lightless[0]}")
        if self.bulk_wt_pct is not None:
            # Atomic weights come from a library that loads slowly.
            from bayesunmix.chemistry.mass_balance import check_bulk

            check_bulk(self.bulk_wt_pct, elements, "bulk_wt_pct")

    @property
    def thickness_prior_nm(self) -> tuple[float, float]:
        """Mean and sd of the thickness that the run uses."""
        return self.thickness_nm or DEFAULT_THICKNESS_NM

    @property
    def density_prior_g_cm3(self) -> tuple[float, float]:
        """Mean and sd of the density that the run uses."""
        return self.density_g_cm3 or DEFAULT_DENSITY_G_CM3
