"""JSON Schema of the configuration file, for editors: made of the types of its tables and their docstrings.

``python -m bayesunmix.config.schema`` writes it anew; a test holds file and types equal.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from bayesunmix.config.run_config import RunConfig

FILE = Path(__file__).with_name("bayesunmix.schema.json")
_ENTRY = re.compile(r"^(\w.*)\n((?: .*\n|\n)+)", re.MULTILINE)


class _FileSchema(GenerateJsonSchema):
    """What a TOML file can hold: it has no null, so that a key whose value is None is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        given = schema.get("default") is not None
        return super().default_schema(schema) if given else self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        table = super().dataclass_schema(schema)
        said = described(schema["cls"])
        table["description"] = said[""]
        for name, entry in table["properties"].items():
            if "$ref" not in entry:
                entry["description"] = said[name]
        return table


def described(kind: type) -> dict[str, str]:
    """Return what docstrings say of each parameter of a class, and of the class itself under the empty name."""
    said = {}
    for base in reversed(kind.__mro__[:-1]):
        story, _, rest = inspect.cleandoc(base.__doc__ or "").partition("Parameters\n----------\n")
        said[""] = " ".join(story.split())
        parameters = re.split(r"\n\n\w+\n-+\n", rest)[0]
        for names, words in _ENTRY.findall(f"{parameters}\n"):
            said |= dict.fromkeys(names.split(", "), " ".join(words.split()))
    return {name: words.replace("``", "`") for name, words in said.items()}


def schema_text() -> str:
    """Return the file's content."""
    tables = TypeAdapter(RunConfig).json_schema(schema_generator=_FileSchema)
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **tables}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
