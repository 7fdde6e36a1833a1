"""What a setting must be, in our words: annotations of a field that pydantic checks and puts into its JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Must:
    """What a value must be, said where it is refused, and a sentence on what to do: as in `InputError`."""

    must: str
    remedy: str = ""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self.of(handler(source))

    def of(self, schema: CoreSchema) -> CoreSchema:
        """Let whatever a schema refuses be refused in these words."""
        words = {"must": self.must, "remedy": self.remedy}
        return core_schema.custom_error_schema(
            schema, custom_error_type="must", custom_error_message="{must}", custom_error_context=words
        )


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, or between them where the range is `open`."""

    low: float
    high: float
    open: bool = False
    remedy: str = ""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        names = ("gt", "lt") if self.open else ("ge", "le")
        limits: dict[str, Any] = dict(zip(names, (self.low, self.high), strict=True))
        must = Must(f"lie between {self.low:g} and {self.high:g}", self.remedy)
        return must.of(core_schema.float_schema(strict=True, allow_inf_nan=False, **limits))
