"""Name the repository that publishes a release as the project's home, in the metadata and the links of the package.

    python .github/name_home.py https://github.com/OWNER/NAME v1.2.3

A clone may lie anywhere, and its links are relative. The page on PyPI has no folder beside it: there ``[project.urls]``
and whole addresses are needed. Changes ``pyproject.toml`` and ``README.md`` of the working directory, before the build.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import urlsplit


def urls(home: str, tag: str) -> str:
    """Return the table of ``pyproject.toml``."""
    owner, name = urlsplit(home).path.strip("/").split("/")
    entries = {
        "Documentation": f"https://{owner.lower()}.github.io/{name}/",
        "Source": home,
        "Changelog": f"{home}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }
    return "\n[project.urls]\n" + "".join(f'{key} = "{value}"\n' for key, value in entries.items())


def linked(readme: str, home: str, tag: str) -> str:
    """Return the README with whole addresses in place of relative ones."""
    pictures = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{home}/raw/{tag}/", readme)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\g<1>{home}/blob/{tag}/", pictures)


def main(home: str, tag: str) -> None:
    """Change both files."""
    project, readme = Path("pyproject.toml"), Path("README.md")
    project.write_text(project.read_text(encoding="utf-8") + urls(home, tag), encoding="utf-8")
    readme.write_text(linked(readme.read_text(encoding="utf-8"), home, tag), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
