"""A region of significant residual on a map, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

from bayesunmix.core.rounding import times_text

# So many elements of a region are named in a sentence; run.json holds all.
MOST_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class MapRegion:
    """A region whose counts no mixture of the declared phases explains.

    Attributes
    ----------
    y, x : float
        Pixel in the middle.
    pixels : int
    sigma : float
        Largest standardised residual.
    kind : str
        ``spectrum`` or ``hole``.
    excess, lacking : dict
        By element the ratio of its counts to those of the best mixture; None where the mixture has none of it.
    counts_ratio : float
        Counts of a pixel relative to those around the region; of a hole relative to those that its phases would give as
        thick as around it.
    """

    y: float
    x: float
    pixels: int
    sigma: float
    kind: str
    excess: dict[str, float | None]
    lacking: dict[str, float | None]
    counts_ratio: float

    def sentence(self) -> str:
        """Say where the region is and what is wrong with it."""
        extent = f"{self.pixels} {'pixel' if self.pixels == 1 else 'pixels'}"
        where = f"around row {self.y:.0f}, column {self.x:.0f} ({extent})"
        if self.kind == "hole":
            return f"{where}: a hole, by its counts {100 * self.counts_ratio:.0f} % as thick as what is around it"
        # Energies without a name are counts, of which there are many or few.
        counts = [next(iter(which), "").startswith("counts") for which in (self.excess, self.lacking)]
        parts = [
            _listed("too many" if counts[0] else "too much", self.excess),
            _listed("too few" if counts[1] else "too little", self.lacking),
        ]
        said = "; ".join(part for part in parts if part) or "no single element stands out"
        return f"{where}, {self.sigma:.0f} sigma: {said}"


def _listed(opening: str, ratios: dict[str, float | None]) -> str:
    """Write elements and their ratios as part of a sentence."""
    if not ratios:
        return ""
    # A line family, ``Cu_K``, is written as it is spoken of.
    named = {name.replace("_", " "): ratio for name, ratio in ratios.items()}
    parts = [name if ratio is None else f"{name} ({times_text(ratio)})" for name, ratio in named.items()]
    rest = " and others" if len(parts) > MOST_NAMED else ""
    return f"{opening} {', '.join(parts[:MOST_NAMED])}{rest}"
