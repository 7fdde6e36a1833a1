"""The documentation as a site: the pages of this folder, in the order of ``index.md``, and every public name.

    python -m sphinx -W --keep-going docs build/site

Nothing is fetched: no inventories of other projects, no scripts, no fonts.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import bayesunmix

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Pages outside this folder, and what they are on the site.
MOVED = {
    "../README.md": "index.md",
    "../CHANGELOG.md": "generated/changelog.copy",
    "../CONTRIBUTING.md": "generated/contributing.copy",
}

project = "bayesunmix"
author = "bayesunmix developers"
copyright = author
version = release = bayesunmix.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
root_doc = "index"
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".copy": "myst-nb"}
exclude_patterns = ["_templates", "paper"]
templates_path = ["_templates"]

# Pages: anchors as a Git host makes them; what is indented is a command or a formula, and in no language.
myst_heading_anchors = 4
highlight_language = "none"
suppress_warnings = ["myst-nb.lexer"]  # of notebooks that are not run, for the check of links

# Notebooks run once, and anew when their code changes.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "remove"

# Names: a docstring's backticks are links where they name something public, and code elsewhere.
default_role = "py:obj"
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Long unions, which a docstring says in words.
autodoc_type_aliases = {name: name.split(".")[-1] for name in ("AnyImage", "AnyPhases", "npt.ArrayLike")}
python_maximum_signature_line_length = 80
numpydoc_show_class_members = False
# Types in signatures: other projects' have no page here, nor have those of layers that users do not meet.
_INTERNAL = r"analysis\.common_draws|chemistry|config|core|data|fit|forward|results\.record|xray"
nitpick_ignore_regex = [("py:obj", ".*"), ("py:.*", rf"(?!bayesunmix\.).*|bayesunmix\.({_INTERNAL})\..*")]

html_theme = "furo"
html_title = f"bayesunmix {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The schemas lie beside the start page, for editors.
html_extra_path = ["../bayesunmix/config/bayesunmix.schema.json", "../bayesunmix/results/run.schema.json"]


# Asked by a separate command, `-b linkcheck`; publishers turn programs away, which says nothing of a DOI.
linkcheck_ignore = [r"https://doi\.org/.*"]


def start_page(contents: str) -> str:
    """Return the README up to its links, followed by the sections of the table of contents with their toctrees."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Documentation\n")[0]
    sections = re.split(r"^(?=## )", contents, flags=re.MULTILINE)[1:]
    return readme.replace("](docs/", "](") + "\n\n" + "".join(map(_with_toctree, sections))


def _with_toctree(section: str) -> str:
    """Add a hidden toctree of the pages that a section lists, so that a page is declared by its line alone."""
    caption = section.splitlines()[0].removeprefix("## ")
    pages = re.findall(r"^\* \[[^\]]+\]\(([\w/]+)\.(?:md|copy)\)", section, flags=re.MULTILINE)
    return f"{section}\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n\n"


def _bring_in(app: Sphinx) -> None:
    """Copy the pages that lie at the top of the repository to where the site can have them."""
    (HERE / "generated").mkdir(exist_ok=True)
    for name in ("CHANGELOG", "CONTRIBUTING"):
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        found = re.sub(r"\]\((?!https?:|#)", "](../../", text).replace("](../../docs/", "](../")
        (HERE / MOVED[f"../{name}.md"]).write_text(found, encoding="utf-8")


def _plain_types(app: Sphinx, made: object, bound: bool) -> None:
    """Leave out of the signatures of dataclasses by what their values are checked."""
    if getattr(made, "__name__", "") == "__init__":
        with contextlib.suppress(NameError, AttributeError):
            made.__annotations__ = get_type_hints(made)


def _plain_signature(
    app: Sphinx,
    what: str,
    name: str,
    made: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Call arrays arrays, whatever they hold, and write defaults that are made anew so that they can be read."""
    array = r"ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[(?:[^\[\]]|\[[^\[\]]*\])*\]\]"
    plain = {array: "ndarray", r"TypeAliasForwardRef\('(\w+)'\)": r"\1", "<factory>": "..."}
    for long, short in plain.items():
        signature, returned = (text and re.sub(long, short, text) for text in (signature, returned))
    return signature, returned


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    for there, here in MOVED.items():
        source[0] = source[0].replace(f"]({there}", f"]({here}")
    if name == "index":
        source[0] = start_page(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what this file adds."""
    app.connect("builder-inited", _bring_in)
    app.connect("source-read", _read)
    app.connect("autodoc-process-signature", _plain_signature)
    app.connect("autodoc-before-process-signature", _plain_types)
    return {"parallel_read_safe": True}
