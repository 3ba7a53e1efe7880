"""What all figures share: colours, fonts, margins, and how many points are drawn at most."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import qualitative

PALETTE = qualitative.Dark24
#: of a class in a map; more classes than colours begin again
CLASS_COLOURS = [*qualitative.Dark24, *qualitative.Light24]
GREY = "#c9ced6"

#: rows of the scorecard keep their colour from figure to figure; generators of one's own follow in ``PALETTE``
ROW_COLOURS = {
    "real": "#111111",
    "refit": "#5f6b7a",
    "memoriser": "#e08214",
    "oracle": "#8c510a",
    "class_gaussian": "#8a94a3",
    "class_kde": "#b4bcc8",
    "class_bootstrap": "#6f7a52",
    "vae": "#1b9e77",
    "wgan_gp": "#c2418a",
    "flow_matching": "#7b5fc4",
    "ddpm": "#1f5fa8",
    "ddim": "#5aa9e6",
}
#: profiles of a set in one panel of a map
MOST_POINTS = 800


def row_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for every row of the scorecard."""
    own = cycle(PALETTE)
    return {name: ROW_COLOURS.get(name) or next(own) for name in dict.fromkeys(names)}


def finish(figure: go.Figure, title: str, height: int, **layout: Any) -> go.Figure:
    """The common layout; ``layout`` overrides it."""
    common = {
        "template": "plotly_white",
        "title": {"text": title, "font": {"size": 15}},
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 80, "b": 50},
        "font": {"family": "system-ui, -apple-system, Segoe UI, sans-serif", "size": 12, "color": "#2b2f36"},
    }
    figure.update_layout(**{**common, **layout})
    # panel titles
    figure.update_annotations(font_size=12)
    return figure


def rounded(values: Any, digits: int = 3) -> list[Any]:
    """Plain lists, since not every version of plotly.js in use reads packed arrays; NaN becomes None."""
    found = np.round(np.asarray(values, dtype=np.float64), digits)
    return [None if not np.isfinite(value) else value for value in found.tolist()]


def picked(count: int, most: int = MOST_POINTS) -> np.ndarray:
    """Which of ``count`` rows are drawn: all, or a fixed random choice of ``most``."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
