"""Methods of inference with their settings: one small frozen object each, with what the method reads and no more.

`bayesunmix.unmix` takes one as its `method`. In the file the same settings are keys of ``[inference]``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, get_args

from bayesunmix.config.names import GuideName, MethodName
from bayesunmix.config.validated import validated
from bayesunmix.config.values import Flag, Whole

Chains = Annotated[int, Whole(1, 64)]
# R-hat splits each chain in two halves of at least two draws.
Draws = Annotated[int, Whole(4, 100_000)]
Warmup = Annotated[int, Whole(1, 100_000)]


@validated("Nuts")
@dataclass(frozen=True, kw_only=True)
class Nuts:
    """Hamiltonian Monte Carlo, exact in the limit of many draws: `bayesunmix.inference.nuts`.

    Parameters
    ----------
    chains
        Independent chains, at most 64.
    draws
        Draws kept in each chain, from 4 to 100 000.
    warmup
        Draws discarded in each chain while the sampler adapts, at most 100 000.

    Examples
    --------
    >>> Nuts(draws=1000)
    Nuts(chains=2, draws=1000, warmup=500)
    """

    name: ClassVar[MethodName] = "nuts"

    chains: Chains = 2
    draws: Draws = 500
    warmup: Warmup = 500


@validated("Laplace")
@dataclass(frozen=True, kw_only=True)
class Laplace:
    """Gaussian with the mode's curvature, for a first look: `bayesunmix.inference.laplace`.

    Parameters
    ----------
    chains, draws
        Its draws are independent; they are given out as so many chains, for tables like those of `Nuts`.
    resample
        Pick the draws anew by their importance weights, where these are reliable.
    """

    name: ClassVar[MethodName] = "laplace"

    chains: Chains = 2
    draws: Draws = 500
    resample: Flag = False


@validated("Svi")
@dataclass(frozen=True, kw_only=True)
class Svi:
    """Variational density, next to the mode at first and fitted to the posterior: `bayesunmix.inference.svi`.

    Parameters
    ----------
    guide
        Family of densities, one of `GUIDES`: see `bayesunmix.inference.guides`.
    chains, draws, resample
        As in `Laplace`.
    """

    name: ClassVar[MethodName] = "svi"

    guide: GuideName = "low_rank"
    chains: Chains = 2
    draws: Draws = 500
    resample: Flag = False


@validated("Map")
@dataclass(frozen=True)
class Map:
    """The mode alone, without intervals; it has no settings."""

    name: ClassVar[MethodName] = "map"


Method = Nuts | Laplace | Svi | Map
METHOD_TYPES: dict[str, type[Method]] = {kind.name: kind for kind in get_args(Method)}


def inference_keys(method: Method) -> dict[str, Any]:
    """Return a method as keys of the table ``[inference]``."""
    return {"method": method.name, **asdict(method)}
