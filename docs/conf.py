"""Sphinx configuration, and the two reference pages, which are written from the library itself at every build.

Build: `sphinx-build -W --keep-going -b html docs site`. Any broken link or reference is an error.

Why Sphinx with MyST and furo: all three are released regularly, and references are checked against the objects
themselves. MkDocs 1 has had no release since 2024 and its successor drops plugins; Material for MkDocs gets fixes only,
and its successor Zensical is not at 1.0 (as of 2026). Pages are Markdown that also reads well on its own; what Sphinx
needs in addition is put in while a page is read (`on_source_read`), so that another generator could take over.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer.main

import gen_prior
from gen_prior import api
from gen_prior.cli import app as commands

DOCS = Path(__file__).parent
ROOT = DOCS.parent

project = "gen-prior"
author = "The gen-prior authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["make_pictures.py", "make_target_pictures.py", "page_pictures.py"]

html_theme = "furo"
html_title = "gen-prior"
html_static_path = ["static"]
html_extra_path = ["extra"]  # copied as it is: the sample atlas
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

nitpicky = True
default_role = "code"  # docstrings put code between single backticks
myst_heading_anchors = 4
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_use_rtype = False
# Annotations name classes of torch and of Python, which this site does not describe.
nitpick_ignore_regex = [("py:.*", r"(?!gen_prior\.).*")]


def is_module(name: str) -> bool:
    """True if the public name is a module, such as `gp.objectives`."""
    return isinstance(getattr(api, name), ModuleType)


def public_members(module: ModuleType) -> list[str]:
    """Public functions and classes of a public module: its `__all__`, else what is defined in it."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isroutine(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


IN_SEVERAL_FILES = ("gen_prior.Result", "gen_prior.Comparison")
"""Classes whose public methods are those of a base class, too."""


def directive(name: str, value: object) -> str:
    """The reStructuredText that documents one public name."""
    if inspect.isclass(value):
        inherited = "   :inherited-members:\n" if name in IN_SEVERAL_FILES else ""
        return f".. autoclass:: {name}\n   :members:\n{inherited}"
    if inspect.isroutine(value):
        return f".. autofunction:: {name}\n"
    return f".. py:data:: {name}\n"


def preset_table() -> Iterator[str]:
    """A Markdown table of the published settings."""
    yield "| preset | generator | steps | source |"
    yield "|---|---|---|---|"
    for name, recipe in api.PRESETS.items():
        source = recipe.source.replace("|", "\\|")
        yield f"| `{name}` | `{api.preset_generator(name)}` | {recipe.steps} | {source} |"


def api_page() -> str:
    """Markdown that documents every name of `gen_prior.api.__all__`: functions, classes, then modules."""
    values = {name: getattr(gen_prior, name) for name in api.__all__}
    kinds = {
        "Functions": [name for name, value in values.items() if inspect.isroutine(value)],
        "Classes": [name for name, value in values.items() if inspect.isclass(value)],
    }
    kinds["Constants"] = [n for n in values if n not in kinds["Functions"] + kinds["Classes"] and not is_module(n)]
    lines: list[str] = []
    for title, names in kinds.items():
        lines += [f"## {title}", "", "```{eval-rst}"]
        lines += [directive(f"gen_prior.{name}", values[name]) for name in names]
        lines += ["```", ""]
    lines += [
        "## Published settings",
        "",
        "`gp.PRESETS`: name of the preset -> its `gp.Recipe`.",
        "",
        *preset_table(),
        "",
    ]
    for name, value in values.items():
        if is_module(name):
            lines += [f"## gp.{name}", "", "```{eval-rst}", f".. py:module:: gen_prior.{name}", ""]
            lines += [
                directive(f"gen_prior.{name}.{member}", getattr(value, member))
                for member in public_members(value)
                if not (inspect.isclass(getattr(value, member)) and member in values)
            ]
            lines += ["```", ""]
    return "\n".join(lines)


smartquotes = False  # help texts hold syntax to be copied


def plain(help_text: str | None) -> str:
    """A help text without rich's markup, as Markdown; what Markdown would read as its own is escaped."""
    text = re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", inspect.cleandoc(help_text or ""), flags=re.DOTALL)
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [
        re.sub(r"(?<![\w-])--[a-z][\w-]*", r"`\g<0>`", re.sub(r"[*_\[\]<>]", r"\\\g<0>", part)) for part in parts[::2]
    ]
    parts[1::2] = [" ".join(code.split()) for code in parts[1::2]]
    return "".join(parts)


def listed(group: Any, before: str) -> Iterator[tuple[str, Any]]:
    """Full name and command of each command of a group that is not hidden, those of groups inside it included."""
    for name, command in group.commands.items():
        if not command.hidden:
            yield f"{before}{name}", command
            yield from listed(command, f"{before}{name} ") if hasattr(command, "commands") else ()


def commands_page() -> str:
    """Markdown that documents every command with all its arguments and options."""
    group = typer.main.get_command(commands)
    context = group.make_context("gen-prior", [], resilient_parsing=True)
    lines: list[str] = []
    for name, command in listed(group, ""):
        inner = type(context)(command, info_name=name, parent=context)
        arguments = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(["gen-prior", name, *arguments, "[OPTIONS]"])
        lines += [f"## gen-prior {name}", "", f"`{usage}`", "", plain(command.help), ""]
        lines += ["| option | what it does | default |", "|---|---|---|"]
        for parameter in command.params:
            if parameter.name == "help" or getattr(parameter, "hidden", False):
                continue
            lines.append(
                "| " + " | ".join(cell.replace("|", "\\|") for cell in parameter_cells(parameter, inner)) + " |"
            )
        lines.append("")
    return "\n".join(lines)


def parameter_cells(parameter: Any, context: Any) -> tuple[str, str, str]:
    """Name, help and default of one argument or option."""
    named = ", ".join(parameter.opts) if parameter.param_type_name == "option" else ""
    flag = getattr(parameter, "is_flag", False)
    metavar = "" if flag else parameter.metavar or parameter.name.upper()
    default = parameter.default
    shown = "" if flag or callable(default) or default in (None, [], ()) or parameter.required else default
    if isinstance(shown, list | tuple):
        shown = ", ".join(map(str, shown))
    return f"`{' '.join(filter(None, (named, metavar)))}`", plain(parameter.help), f"`{shown}`" if shown != "" else ""


def root_page(name: str) -> str:
    """A Markdown file of the repository's root or of weights/, its links seen from this folder."""
    path = ROOT / name
    if not path.is_file():
        return f"# {name}\n\nNot written yet.\n"
    up = "../" * name.count("/")
    text = (
        path.read_text(encoding="utf-8")
        .replace(f"]({up}docs/", "](")
        .replace(f"]({up}weights/README.md", "](weights.md")
    )
    for page in ("CHANGELOG", "CONTRIBUTING"):
        text = text.replace(f"]({up}{page}.md", f"]({page.lower()}.md")
    # What is left: other files of the repository, which the site offers as downloads.
    return re.sub(r"\]\((?=(?:benchmarks|gen_prior|cli|tests|weights)/|LICENSE|CITATION|pyproject)", "](../", text)


def notebook_page() -> str:
    """The tutorial notebook as Markdown: its cells, and below each what it showed."""
    cells = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    lines: list[str] = []
    for cell in cells:
        source = "".join(cell["source"])
        lines += [source, ""] if cell["cell_type"] == "markdown" else ["```python", source, "```", ""]
        for output in cell.get("outputs", []):
            lines += [*shown_output(output), ""]
    return "\n".join(lines)


def shown_output(output: dict[str, Any]) -> list[str]:
    """What a cell of a notebook showed, as a block of HTML or of text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        return ["```{raw} html", '<div class="notebook-output">', "".join(data["text/html"]), "</div>", "```"]
    return ["```text", "".join(data["text/plain"]).rstrip(), "```"]


GENERATED: dict[str, Callable[[], str]] = {
    "api": api_page,
    "commands": commands_page,
    "readme": lambda: root_page("README.md"),
    "weights": lambda: root_page("weights/README.md"),
    "changelog": lambda: root_page("CHANGELOG.md"),
    "notebook": notebook_page,
    "contributing": lambda: root_page("CONTRIBUTING.md"),
}
"""Where a page says `<!-- generated: NAME -->`, this is put."""


def with_links(text: str) -> str:
    """Inline `gp.name` becomes a reference to the API page, `gen-prior command` one to the command's section."""
    parts = re.split(r"(^```.*?^```\s*$)", text, flags=re.MULTILINE | re.DOTALL)
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r"(?<![`\[])`gp\.([\w.]+)`(?!`)", r"{py:obj}`gp.\1 <gen_prior.\1>`", parts[index])
        parts[index] = re.sub(
            r"(?<![`\[])`gen-prior ([a-z-]+)`(?!`)",
            r"[`gen-prior \1`](/reference/commands.md#gen-prior-\1)",
            parts[index],
        )
        for numbers in (
            r"(?<=\d) (?=%)",
            r"(?<=[\d%]) (?=/ \d)",
            r"(?<=\d /) (?=\d)",
            r"(?<=% /) (?=\d)",
            r"(?<=\[\d\d,) ",
        ):
            parts[index] = re.sub(numbers, "\u00a0", parts[index])
    return "".join(parts)


def on_get_outdated(app: Any, env: Any, added: Any, changed: Any, removed: Any) -> list[str]:
    """Pages that are written from something else than their own file: read anew at every build."""
    return [
        page for page in env.found_docs if "<!-- generated:" in Path(env.doc2path(page)).read_text(encoding="utf-8")
    ]


def on_source_read(app: Any, page: str, source: list[str]) -> None:
    """Put in what is generated, and the links."""
    text = re.sub(r"<!-- generated: (\w+) -->", lambda mark: GENERATED[mark[1]](), source[0])
    text = text.replace("](../weights/README.md)", "](/weights.md)")
    # The changelog names what is gone, and the commands would link to themselves.
    source[0] = text if page in ("reference/commands", "changelog") else with_links(text)


def on_docstring(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text: outside of backticks, `|x|`, `*x` and `x_` are no markup, and `x`s is a plural."""
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    parts[::2] = [re.sub(r"([|*])|(?<=\w)_(?!\w)", lambda mark: "\\" + mark[0], part) for part in parts[::2]]
    parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]
    lines[:] = "".join(parts).split("\n")


def public_names() -> dict[str, str]:
    """Last part of every documented name -> the name in full."""
    modules = filter(is_module, api.__all__)
    members = [(module, member) for module in modules for member in public_members(getattr(api, module))]
    full = {member: f"gen_prior.{module}.{member}" for module, member in members}
    return full | {name: f"gen_prior.{name}" for name in api.__all__}


def on_missing_reference(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Annotations name a class by the module it is defined in: link its public name, or leave it as text."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("gen_prior."):
        return None
    public = public_names().get(target.rpartition(".")[2])
    if public is not None and public != target:
        domain = env.get_domain("py")
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, content)
    written_in_a_page = target.count(".") == 1 or (target.count(".") == 2 and target.split(".")[1] in api.__all__)
    return None if written_in_a_page else content  # None: an error


def setup(app: Any) -> None:
    """Connect the above to Sphinx."""
    app.connect("env-get-outdated", on_get_outdated)
    app.connect("source-read", on_source_read)
    app.connect("autodoc-process-docstring", on_docstring, priority=400)  # before napoleon
    app.connect("missing-reference", on_missing_reference)
