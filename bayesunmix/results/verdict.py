"""The verdict on a result: good, with reservations, or not to be trusted, with the findings that make it so.

One function decides, from every sentence that was said between the file and the draws (`bayesunmix.results.doubts`
collects them). Terminal, printed result, report, ``run.json`` and exit status show what it decided, in its words and
order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, get_args

from bayesunmix.core.attached import Attached
from bayesunmix.core.severity import Doubt, Severity

# Exit status of a command whose result is not to be trusted.
UNTRUSTED = 3
# Limits that doubts and the report's table of diagnostics share.
RHAT_LIMIT = 1.01
ESS_PER_CHAIN = 100.0
# A mode this close to the best one could hold a share of the posterior.
RIVAL_NATS = 10.0
# One this close fits nearly as well, as far as a part of the blocks on coarse support points can tell: the user should
# know it.
NEAR_NATS = 100.0
# A region of residuals that noise makes anywhere in the scan with less than this probability is none of noise.
NOISE_CHANCE = 0.01

NOTHING = "No diagnostic speaks against this result."
EARLIER = (
    "The run was made by an earlier version, which gave no verdict: this one is read from what it recorded."
)
POINT_ESTIMATE = (
    'Method "map" gives the maximum of the posterior alone: no number has an interval, no element is tested for '
    'detection, and no diagnostic was computed from draws. Run `method = "laplace"` or "nuts" for these.'
)


class Level(StrEnum):
    """What the answer of a run is worth; each level is written in the same words everywhere."""

    GOOD = "good"
    RESERVATIONS = "reservations"
    DISTRUST = "distrust"

    @property
    def words(self) -> str:
        """Follows "verdict:"."""
        return {"good": "good", "reservations": "with reservations", "distrust": "not to be trusted"}[self]

    @property
    def opening(self) -> str:
        """The sentence before the findings."""
        return f"Good. {NOTHING}" if self == Level.GOOD else f"{self.words.capitalize()}:"

    @property
    def exit_status(self) -> int:
        """Of a command that ended with this verdict: results with reservations stand."""
        return UNTRUSTED if self == Level.DISTRUST else 0


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against the numbers of a result.

    Parameters
    ----------
    severity
        ``distrust``: the numbers are not to be trusted; ``reservation``: they stand, with this in mind.
    text
        What it is, in a sentence or two.
    about
        The diagnostic that found it, by the name it has in the report's table; empty for what is no diagnostic.
    """

    severity: Severity
    text: str
    about: str = ""

    @property
    def line(self) -> str:
        """The finding with its weight before it, as it is printed."""
        weight = Level.DISTRUST.words if self.severity == "distrust" else "reservation"
        return f"{weight}: {self.text}"


@dataclass(frozen=True, repr=False)
class Verdict:
    """What the answer of a run is worth.

    Parameters
    ----------
    level
        ``good``, ``reservations`` or ``distrust``: that of the most serious finding.
    findings
        The most serious first.
    earlier
        Whether the run's version gave no verdict of its own.
    """

    level: Level
    findings: tuple[Finding, ...] = ()
    earlier: bool = False

    @property
    def words(self) -> str:
        """The level as it is written everywhere."""
        return self.level.words

    def lines(self) -> list[str]:
        """Return the level and every finding, one a line."""
        said = [f"verdict: {self.words}", *(finding.line for finding in self.findings)]
        return [*said, *([EARLIER] if self.earlier else [])]

    def texts(self, severity: Severity) -> tuple[str, ...]:
        """Return the findings of one severity."""
        return tuple(finding.text for finding in self.findings if finding.severity == severity)

    def __str__(self) -> str:
        return "\n  ".join(self.lines())

    def __repr__(self) -> str:
        return str(self)

    _repr_html_ = Attached()

    def to_dict(self) -> dict[str, Any]:
        """Return what run.json holds."""
        return {"verdict": self.level.value, "findings": [asdict(finding) for finding in self.findings]}


def judge(said: Iterable[str]) -> Verdict:
    """Decide what a result is worth.

    Parameters
    ----------
    said
        Everything that was said of it, what matters most first. A `bayesunmix.core.severity.Doubt` counts with its
        severity; what is plain text says what was assumed, and counts for nothing.
    """
    findings = dict.fromkeys(
        Finding(sentence.severity, str(sentence), sentence.about)
        for sentence in said
        if isinstance(sentence, Doubt)
    )
    order = get_args(Severity)
    ranked = sorted(findings, key=lambda finding: order.index(finding.severity))
    return Verdict(_level(ranked), tuple(ranked))


def _level(findings: Iterable[Finding]) -> Level:
    found = {finding.severity for finding in findings}
    return Level.DISTRUST if "distrust" in found else Level.RESERVATIONS if found else Level.GOOD
