"""The cells of a notebook, run in the process of the tests: a kernel of its own would load all libraries once more."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.formatters import DisplayFormatter


def run_cells(notebook: Path) -> Iterator[tuple[str, Any]]:
    """The source of every cell of code, and the value that it shows; they are plain Python."""
    names: dict[str, Any] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse(cell["source"])
        last, value = tree.body[-1], None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, notebook.name, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), notebook.name, "eval"), names)
        yield cell["source"], value


def shown(value: Any) -> str:
    """What Jupyter shows of a value, as text or HTML."""
    formats, _ = DisplayFormatter().format(value)
    assert formats
    return "".join(str(part) for part in formats.values())
