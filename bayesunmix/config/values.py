"""Kinds of values that settings have: pydantic checks them and writes their JSON Schema, the sentences are ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    ValidationInfo,
)
from pydantic_core import CoreSchema, PydanticUndefined, core_schema

from bayesunmix.chemistry.stoichiometry import check_elements
from bayesunmix.core.errors import InputError, check_path, check_positive, shown
from bayesunmix.core.limits import Must


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`, whose refusal names the limit that it breaks, or `both`; 500.0 is one."""

    low: int
    high: int
    both: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        least, most = core_schema.int_schema(strict=True, ge=self.low), core_schema.int_schema(le=self.high)
        words = f"of at least {self.low}", f"of at most {self.high}"
        if self.both:
            words = 2 * (f"from {self.low} to {self.high}",)
        first = core_schema.no_info_before_validator_function(_whole, least)
        pairs = zip(words, (first, most), strict=True)
        return core_schema.chain_schema(
            [Must(f"be a whole number {said}").of(schema) for said, schema in pairs]
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def checked_by(
    check: Callable[..., object], takes: object = PydanticUndefined, **limits: object
) -> BeforeValidator:
    """Let a check of this package, which takes the field's name and the value, read the value.

    Parameters
    ----------
    check
        Returns what goes into the field, or raises `InputError`.
    takes
        Type of what a file may hold, where it is another than the field's.
    **limits
        Further arguments of the check.
    """
    return BeforeValidator(lambda value: check("", value, **limits), json_schema_input_type=takes)


def mean_and_sd(low: float, high: float) -> AfterValidator:
    """Refuse a pair whose mean is outside these limits, or whose sd is negative or higher."""

    def check(pair: tuple[float, float]) -> tuple[float, float]:
        check_positive("(sd)", pair[1], allow_zero=True, high=high)
        return check_positive("", pair[0], low=low, high=high), pair[1]

    return AfterValidator(check)


def by_element(example: str) -> BeforeValidator:
    """Refuse what is no table whose keys are elements."""

    def check(value: object) -> object:
        check_elements("", list(check_table("", value, example)))
        return value

    return BeforeValidator(check)


def check_table(field: str, value: object, example: str) -> Mapping[Any, Any]:
    """Return `value`, or raise `InputError` unless it is a table such as `example`."""
    if not isinstance(value, Mapping):
        raise InputError(field, f"be a table such as {example}", f"is {shown(value)}")
    return value


def beside(value: object, info: ValidationInfo) -> object:
    """Take the relative name of a file from the folder of the file that names it."""
    folder = (info.context or {}).get("folder")
    return folder / value if folder is not None and isinstance(value, str) and value else value


Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False), Must("be a finite number")]
Pair = Annotated[tuple[Number, Number], Must("be [value, sd]")]
Elements = Annotated[tuple[str, ...], checked_by(check_elements)]
Folder = Annotated[Path, checked_by(check_path), BeforeValidator(beside)]
