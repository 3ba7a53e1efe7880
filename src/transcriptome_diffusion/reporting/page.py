"""Pages of HTML that open without a network, from the templates beside this module.

Values are escaped wherever a template shows them. Plotly is embedded once; a figure is data that the page's script
draws when it comes into view.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from transcriptome_diffusion import __version__


def render(template: str, **content: Any) -> str:
    """The page that ``template`` makes of ``content``."""
    return TEMPLATES.get_template(template).render(content, plotly=Markup(get_plotlyjs()), version=__version__)


def figure_data(figure: go.Figure) -> Markup:
    """A figure as JSON for a script element: without ``<``, no text in it can end the script."""
    return Markup((figure.to_json() or "").replace("<", "\\u003c"))


def plain_table(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Heads and rows of a table as text, numbers shortened; a column of whole numbers has no decimals."""
    rows = [[number(value) for value in row] for row in table.convert_dtypes().itertuples(index=False)]
    return {"heads": [str(name).replace("_", " ") for name in table], "rows": rows}


def number(value: Any) -> str:
    """Three decimals below 10, one below 1000 unless whole, powers of ten for what would round to 0; else text."""
    if not isinstance(value, int | float | np.number):
        return "–" if pd.isna(value) else str(value)
    value = value.item() if isinstance(value, np.number) else value
    if not np.isfinite(value):
        return "–"
    if 0 < abs(value) < 0.0005:
        return f"{value:.1e}"
    digits = 0 if isinstance(value, int) else 3 if abs(value) < 10 else 1 if abs(value) < 1000 and value % 1 else 0
    return f"{value:,.{digits}f}"


TEMPLATES = Environment(
    loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters["figure_data"] = figure_data
