"""Profiles as points: principal components, UMAP, and the states of the reverse process."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from transcriptome_diffusion.reporting.style import CLASS_COLOURS, GREY, finish, picked, rounded

#: a set of profiles (n, n_genes) or points (n, 2), and one label per row
Set = tuple[np.ndarray, np.ndarray]
#: profiles that UMAP is fitted on at most, and principal components it is given
MOST_FITTED, COMPONENTS = 1500, 50
HELD_OUT = "held-out donors"


def pca_comparison(
    train: np.ndarray, held_out: np.ndarray, held_out_labels: np.ndarray, synthetic: Mapping[str, Set]
) -> go.Figure:
    """Held-out and synthetic profiles in the first two principal components of the training data.

    Components are fitted on train alone, so that no other profiles change the axes. Every panel shows the held-out
    profiles in grey below its own, coloured by label.

    Args:
        train: (n_train, n_genes), standardised.
        held_out: (n, n_genes) in the same units, with one label per row.
        synthetic: per generator its profiles (m, n_genes) and labels (m,).
    """
    centre, axes, share = _principal(train, 2)
    sets = _thinned({HELD_OUT: (held_out, held_out_labels), **synthetic})
    points = {name: ((values - centre) @ axes, labels) for name, (values, labels) in sets.items()}
    figure = _panels(points, backdrop=HELD_OUT)
    _name_axes(figure, f"PC1 ({share[0]:.0%})", f"PC2 ({share[1]:.0%})")
    return finish(figure, "Real and synthetic profiles, principal components of the training donors", _height(points))


def umap_comparison(
    train: np.ndarray, held_out: np.ndarray, held_out_labels: np.ndarray, synthetic: Mapping[str, Set]
) -> go.Figure:
    """The panels of ``pca_comparison`` on a UMAP of the training profiles; arguments as there.

    McInnes et al. (2018), arXiv:1802.03426, with the library's settings and a fixed seed, on ``COMPONENTS`` principal
    components of up to ``MOST_FITTED`` training profiles. Others are placed afterwards, among their nearest training
    profiles. Missing and misplaced groups are visible; distances mean little.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its libraries, and that a seed costs it its threads
        try:
            from umap import UMAP
        except ImportError as error:
            raise ImportError(
                "`evaluation.umap` needs umap-learn, which is not installed: "
                'pip install "transcriptome-diffusion[umap]", or set it to false.'
            ) from error
        centre, axes, _ = _principal(train, COMPONENTS)
        sets = _thinned({HELD_OUT: (held_out, held_out_labels), **synthetic})
        coordinates = [(values - centre) @ axes for values, _ in sets.values()]
        fitted = (train[picked(len(train), MOST_FITTED)] - centre) @ axes
        umap = UMAP(n_neighbors=min(15, len(fitted) - 1), random_state=0, n_jobs=1).fit(fitted)
        placed = np.split(
            umap.transform(np.concatenate(coordinates)), np.cumsum([len(part) for part in coordinates])[:-1]
        )
    points = {name: (xy, labels) for xy, (name, (_, labels)) in zip(placed, sets.items(), strict=True)}
    figure = _panels(points, backdrop=HELD_OUT)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    return finish(figure, "Real and synthetic profiles, UMAP of the training donors", _height(points))


def umap_on_request() -> go.Figure:
    """What stands in the place of the UMAP where it was not asked for; the report leaves it out."""
    return finish(go.Figure(), "UMAP: set `evaluation.umap` to true (--params evaluation.umap=true)", 120)


def trajectory(train: np.ndarray, states: Mapping[str, Set]) -> go.Figure:
    """States of the sampler from noise to profiles, each on the principal components of the training data.

    Figure 2 of Lacan et al. (2026), doi:10.1186/s12859-026-06470-8. Panels have their own ranges: noise is as wide
    along every component, and small beside the differences between tissues.

    Args:
        train: (n_train, n_genes), standardised.
        states: title -> profiles (n, n_genes) in the same units, and labels (n,); the last are the finished ones.
    """
    centre, axes, share = _principal(train, 2)
    points = {title: ((values - centre) @ axes, labels) for title, (values, labels) in _thinned(states).items()}
    figure = _panels(points, columns=len(points), shared=False)
    _name_axes(figure, f"PC1 ({share[0]:.0%})", f"PC2 ({share[1]:.0%})")
    return finish(
        figure, "From noise to profiles: states of the sampler", 470, margin={"l": 60, "r": 20, "t": 80, "b": 60}
    )


def _principal(train: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (n_genes,), axes (n_genes, count or as many as there are) and their shares of the variance."""
    from sklearn.decomposition import PCA

    fitted = PCA(min(count, len(train) - 1, train.shape[1]), random_state=0).fit(train)
    return fitted.mean_, fitted.components_.T, fitted.explained_variance_ratio_


def _thinned(sets: Mapping[str, Set]) -> dict[str, Set]:
    rows = {name: picked(len(labels)) for name, (_, labels) in sets.items()}
    return {name: (values[rows[name]], labels[rows[name]]) for name, (values, labels) in sets.items()}


def _height(points: Mapping[str, Set]) -> int:
    return 110 + 300 * -(-len(points) // min(4, len(points)))


def _panels(
    points: Mapping[str, Set], columns: int | None = None, shared: bool = True, backdrop: str | None = None
) -> go.Figure:
    """A panel per set of points, coloured by label; ``backdrop`` names the set that lies in grey below the others."""
    columns = columns or min(4, len(points))
    rows = -(-len(points) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=list(points), shared_xaxes="all" if shared else False,
        shared_yaxes="all" if shared else False, horizontal_spacing=0.015 if shared else 0.04,
        vertical_spacing=0.15 / rows,
    )  # fmt: skip
    known = sorted({str(label) for _, labels in points.values() for label in labels})
    colour = {label: CLASS_COLOURS[i % len(CLASS_COLOURS)] for i, label in enumerate(known)}
    named: set[str] = set()
    for i, (name, (xy, labels)) in enumerate(points.items()):
        place: dict[str, Any] = {"row": i // columns + 1, "col": i % columns + 1}
        if backdrop not in (None, name):
            figure.add_trace(_dots(points[str(backdrop)][0], str(backdrop), GREY, 4, hoverinfo="skip"), **place)
        for label in sorted(set(labels)):
            shown = {"showlegend": label not in named, "legendgroup": label, "hoverinfo": "name"}
            figure.add_trace(_dots(xy[labels == label], label, colour[label], 4, **shown), **place)
            named.add(label)
    figure.update_layout(legend={"itemsizing": "constant", "font": {"size": 11}})
    return figure


def _dots(points: np.ndarray, name: str, colour: str, size: int, **more: Any) -> go.Scatter:
    more.setdefault("showlegend", False)
    marker = {"size": size, "color": colour, "opacity": 0.75}
    return go.Scatter(
        x=rounded(points[:, 0], 2), y=rounded(points[:, 1], 2), mode="markers", name=name, marker=marker, **more
    )


def _name_axes(figure: go.Figure, x: str, y: str) -> None:
    rows, _ = figure._get_subplot_rows_columns()
    figure.update_xaxes(title_text=x, row=rows[-1])
    figure.update_yaxes(title_text=y, col=1)
