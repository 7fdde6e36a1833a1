"""Table ``[inference]``: how the posterior is computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from bayesunmix.config.endmembers import ENDMEMBERS, EndmemberName
from bayesunmix.config.methods import METHOD_TYPES, Chains, Draws, Method, Warmup
from bayesunmix.config.names import GuideName, MethodName
from bayesunmix.config.validated import validated
from bayesunmix.config.values import Flag, Whole, checked_by
from bayesunmix.core.errors import InputError, check_integer, shown, warn
from bayesunmix.core.limits import Between

Overlaps = Annotated[int, Whole(1, 20)] | Literal["auto"]


def _check_overlap(name: str, value: object) -> object:
    if isinstance(value, str) and value == "auto":
        return value
    try:
        return check_integer(name, value, low=1, high=20)
    except InputError:
        raise InputError(name, 'be "auto" or a whole number from 1 to 20', f"is {shown(value)}") from None


@validated("inference")
@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Table ``[inference]``: how the posterior is computed.

    A method reads the keys that its own type has (`bayesunmix.config.methods`); those of another are there for
    ``--method`` to choose it.

    Parameters
    ----------
    method
        ``nuts``, ``laplace``, ``svi`` or ``map``.
    chains, draws, warmup
        Independent chains, at most 64, and draws kept (from 4) and discarded in each, at most 100 000.
    level
        Probability that an interval holds.
    starts
        Starting points of the search for the best mode, at least; two for each phase beyond the second if that is more.
        At most 1000.
    max_overlap
        Most phases that share a pixel, finely resolved; ``auto`` lets held-out counts choose between a grain and the
        declared matrix, any two, and any three.
    endmembers
        ``physics``: made of lines; ``free``: channel by channel, compositions read off them by the line model.
    set_aside
        Fit the endmembers without the regions that no mixture of the declared phases explains, once these are found.
    further_phase
        Look for one phase more than was asked for.
    rotations
        Rotate the draws by what the map leaves open, so that intervals hold it. Without it they hold the one solution
        that the priors of weights and abundances prefer.
    rotation_pure, rotation_absent
        Prior probabilities of where a phase lies that the map leaves open: at the end of what is feasible where some
        pixel of it is pure, and at the end where an element of another phase is exactly absent from it. Together at
        most 1; with the rest it lies evenly between.
    spatial
        Let the maps of abundance, and nothing else, learn from neighbouring pixels.
    guide
        Family of densities that ``svi`` fits; see `bayesunmix.inference.guides`.
    resample
        Pick the draws of ``laplace`` and ``svi`` anew by their importance weights, where these are reliable.
    """

    method: MethodName = "nuts"
    chains: Chains = 2
    draws: Draws = 500
    warmup: Warmup = 500
    level: Annotated[float, Between(0, 1, open=True, remedy="Give 0.95 for a 95 % interval.")] = 0.95
    starts: Annotated[int, Whole(1, 1000)] = 4
    max_overlap: Annotated[int | Literal["auto"], checked_by(_check_overlap, Overlaps)] = "auto"
    endmembers: EndmemberName = "physics"
    set_aside: Flag = True
    further_phase: Flag = True
    rotations: Flag = True
    rotation_pure: Annotated[float, Between(0.0, 1.0)] = 1 / 3
    rotation_absent: Annotated[float, Between(0.0, 1.0)] = 1 / 3
    spatial: Flag = False
    guide: GuideName = "low_rank"
    resample: Flag = False

    def __post_init__(self) -> None:
        kind = ENDMEMBERS[self.endmembers]
        if self.method not in kind.methods:
            choice = " or ".join(f'"{method}"' for method in kind.methods)
            raise InputError("method", f"be {choice} for {kind.words}", f'is "{self.method}"')

        ends = self.rotation_pure + self.rotation_absent
        if ends > 1.0:
            must = "be at most 1 together with `inference.rotation_absent`"
            raise InputError("rotation_pure", must, f"is {self.rotation_pure:g}, which makes {ends:g}")

    @property
    def engine(self) -> Method:
        """The method with the settings that it reads."""
        kind = METHOD_TYPES[self.method]
        return kind(**{entry.name: getattr(self, entry.name) for entry in fields(kind)})

    def warn_of_unread(self, given: Iterable[str]) -> None:
        """Warn of keys that were given another value than they have anyway, and that the method does not read."""
        own = {entry.name for entry in fields(METHOD_TYPES[self.method])}
        others = {entry.name for kind in METHOD_TYPES.values() for entry in fields(kind)} - own
        usual = {entry.name: entry.default for entry in fields(self)}
        for key in given:
            if key in others and getattr(self, key) != usual[key]:
                warn(
                    f'`inference.{key}` has no effect: the method "{self.method}" does not read it. Take it out.'
                )
