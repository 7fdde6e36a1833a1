"""Table ``[xray]``: measured line strengths."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from bayesunmix.chemistry.stoichiometry import SYMBOLS
from bayesunmix.config.validated import validated
from bayesunmix.config.values import Pair, beside, check_table, checked_by, mean_and_sd
from bayesunmix.core.errors import InputError, check_path, shown
from bayesunmix.core.limits import Between

# Relative sd of mass absorption coefficients. For solids, Chantler 2000 (doi:10.1063/1.1321055, table 2) gives 1 %
# well above an edge, 10 to 20 % within a tenth above a K edge, 5 to 20 % from 0.5 to 1 keV; good tables differ by 6 %.
DEFAULT_ABSORPTION_SD = 0.06

_FACTOR = re.compile(r"([A-Z][a-z]?)_([KLM]a?)")


def _check_line_table(field: str, value: object) -> Path:
    if not isinstance(value, str | Path):
        raise InputError(field, "be the name of a JSON file", f"is {shown(value)}")
    file = check_path(field, value)
    if not file.is_file():
        raise InputError(field, "be an existing JSON file", f'"{file}" is not there')
    return file


def _check_keys(field: str, value: object) -> object:
    for key in check_table(field, value, "{Fe_K = [1.21, 0.03]}"):
        line = _FACTOR.fullmatch(str(key))
        if line is None or line.group(1) not in SYMBOLS:
            must = "name an element and a family, such as Fe_K, or its alpha line, such as Fe_Ka"
            raise InputError(field, must, f"holds {shown(key)}")
    return value


def _check_sds(factors: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    for key, (factor, sd) in factors.items():
        if sd > factor:
            raise InputError(f"{key}.(sd)", f"be at most the factor of {factor:g}", f"is {sd:g}")
    return factors


_KFactors = Annotated[
    dict[str, Annotated[Pair, mean_and_sd(1e-3, 1e3)]], checked_by(_check_keys), AfterValidator(_check_sds)
]
_ZetaFactors = Annotated[
    dict[str, Annotated[Pair, mean_and_sd(1e-3, 1e9)]], checked_by(_check_keys), AfterValidator(_check_sds)
]


@validated("xray")
@dataclass(frozen=True, kw_only=True)
class XrayConfig:
    """Table ``[xray]``: measured line strengths.

    Parameters
    ----------
    table
        JSON file that replaces the built-in line strengths.
    k_factors
        Cliff-Lorimer factors: value and sd, by element and family (``Fe_K``, relative to Si_K) or alpha line
        (``Fe_Ka``, relative to Si_Ka). From 0.001 to 1000, with an sd of at most the value.
    zeta_factors
        Instead: zeta-factors in kg electron / (photon m2), keyed alike; with the dose they give the mass thickness.
        From 0.001 to 1e9.
    absorption_sd
        Relative sd of the mass absorption coefficients of each absorbing element, above 1 keV and away from its edges;
        0 for coefficients that are known.
    """

    table: Annotated[Path, checked_by(_check_line_table), BeforeValidator(beside)] | None = None
    k_factors: _KFactors = field(default_factory=dict)
    zeta_factors: _ZetaFactors = field(default_factory=dict)
    absorption_sd: Annotated[float, Between(0.0, 1.0, remedy="Give 0.06 for 6 %.")] = DEFAULT_ABSORPTION_SD

    def __post_init__(self) -> None:
        for key in ("Si_K", "Si_Ka"):
            value, _ = self.k_factors.get(key, (1.0, 0.0))
            if value != 1.0:
                must = f"be 1, because factors are relative to {key}"
                raise InputError(f"k_factors.{key}", must, f"is {value:g}")
        if self.k_factors and self.zeta_factors:
            must = "be given instead of `xray.k_factors`"
            raise InputError("zeta_factors", must, "stands beside them", "Keep one.")
