"""Genes in real and synthetic profiles: how they vary together, how each is distributed, how tissues differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.stats import gaussian_kde

from transcriptome_diffusion.metrics.biology.coexpression import within_correlation
from transcriptome_diffusion.metrics.biology.differential import Groups, differential_expression, one_against_others
from transcriptome_diffusion.metrics.distances import marginals
from transcriptome_diffusion.reporting.maps import Set
from transcriptome_diffusion.reporting.style import GREY, finish, rounded, row_colours

#: genes in a correlation map, and dots in a panel of log-fold changes
MAPPED, DOTTED = 120, 400
#: genes shown from either end of the marginals, and points of a density
ENDS, POINTS = 3, 50
#: standard deviations below which a density is not drawn
CONSTANT = 1e-6


def correlation_maps(train: Set, panels: Mapping[str, Set], symbols: Sequence[str]) -> go.Figure:
    """Correlations within tissues of the genes that vary most there, in one order for all panels.

    Genes and order come from the training donors: average linkage on 1 - r, leaves ordered by likeness.

    Args:
        train: (n, n_genes) in the log unit, and labels.
        panels: title -> the same of other profiles; a panel of training donors comes first.
        symbols: a name per gene.
    """
    values, labels = train
    within = np.zeros(values.shape[1])
    for label in np.unique(labels):
        within += (labels == label).sum() * values[labels == label].var(axis=0, dtype=np.float64)
    chosen = np.argsort(-within, kind="stable")[:MAPPED]
    distance = 1 - within_correlation(values[:, chosen], labels)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(distance[np.triu_indices(len(chosen), 1)].clip(min=0), "average", optimal_ordering=True)
    chosen = chosen[leaves_list(tree)]
    names = [str(symbols[gene]) for gene in chosen]
    shown = {"training donors": train, **panels}
    columns = min(5, len(shown))
    rows = -(-len(shown) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=list(shown), horizontal_spacing=0.015, vertical_spacing=0.1 / rows
    )
    for i, (values, labels) in enumerate(shown.values()):
        r = within_correlation(values[:, chosen], labels)
        np.fill_diagonal(r, 1.0)
        heat = go.Heatmap(
            z=[rounded(row, 2) for row in r], x=names, y=names, coloraxis="coloraxis",
            hovertemplate="%{x}, %{y}: r = %{z}<extra></extra>",
        )  # fmt: skip
        figure.add_trace(heat, row=i // columns + 1, col=i % columns + 1)
    figure.update_xaxes(showticklabels=False, ticks="", constrain="domain")
    figure.update_yaxes(showticklabels=False, ticks="", autorange="reversed")
    for i in range(len(shown)):
        figure.layout[f"yaxis{i + 1 if i else ''}"].update(scaleanchor=f"x{i + 1 if i else ''}", constrain="domain")
    scale = {"colorscale": "RdBu_r", "cmin": -1, "cmax": 1, "colorbar": {"title": "r", "thickness": 12, "len": 0.6}}
    title = f"Correlations within tissues of the {len(chosen)} genes that vary most there"
    return finish(figure, title, 90 + 235 * rows, coloraxis=scale, margin={"l": 20, "r": 20, "t": 80, "b": 20})


def marginal_densities(
    train: np.ndarray, held_out: np.ndarray, synthetic: Mapping[str, np.ndarray], symbols: Sequence[str], unit: str
) -> go.Figure:
    """For every generator the genes whose distribution is most and least like that of held-out donors.

    Likeness is the Wasserstein distance in training standard deviations, printed as W.

    Args:
        train, held_out: (n, n_genes) in the log unit ``unit``. synthetic: per generator the same.
        symbols: a name per gene.
    """
    scale = train.std(axis=0, dtype=np.float64)
    scale[scale < CONSTANT] = 1.0
    tables = {
        name: marginals(held_out / scale, values / scale)["wasserstein"].to_numpy()
        for name, values in synthetic.items()
    }
    colours = row_colours(synthetic)
    ends = {}
    for name, distance in tables.items():
        order = np.argsort(distance, kind="stable")
        ends[name] = [*order[:ENDS], *order[-ENDS:]]
    titles = [f"{symbols[gene]}  W {tables[name][gene]:.2f}" for name, genes in ends.items() for gene in genes]
    rows = len(ends)
    figure = make_subplots(
        rows,
        2 * ENDS,
        subplot_titles=titles,
        row_titles=list(ends),
        horizontal_spacing=0.02,
        vertical_spacing=0.32 / rows,
    )
    for row, (name, genes) in enumerate(ends.items(), 1):
        for column, gene in enumerate(genes, 1):
            real, made = held_out[:, gene].astype(np.float64), synthetic[name][:, gene].astype(np.float64)
            low, high = min(real.min(), made.min()), max(real.max(), made.max())
            # no further: a smoothed density would reach below the values that a log unit has
            grid = np.linspace(low, high, POINTS)
            for values, what, line, fill in (
                (real, "held-out donors", "#8a94a3", GREY),
                (made, name, colours[name], None),
            ):
                if values.std() < CONSTANT:  # a gene that never varies has no density
                    figure.add_vline(x=float(values[0]), line={"color": line, "width": 2}, row=row, col=column)
                    continue
                trace = go.Scatter(
                    x=rounded(grid, 2), y=rounded(gaussian_kde(values)(grid), 4), mode="lines", name=what,
                    line={"color": line, "width": 1 if fill else 2}, fill="tozeroy" if fill else None, fillcolor=fill,
                    showlegend=bool(fill) and (row, column) == (1, 1), hoverinfo="name+x",
                )  # fmt: skip
                figure.add_trace(trace, row=row, col=column)
    figure.update_yaxes(showticklabels=False, showgrid=False, rangemode="tozero")
    figure.update_xaxes(tickfont={"size": 9}, nticks=4)
    figure.update_xaxes(title_text=unit, row=rows, title_font={"size": 10})
    title = f"Genes distributed most (left {ENDS}) and least (right {ENDS}) like those of held-out donors"
    return finish(
        figure, title, 120 + 130 * rows, legend={"orientation": "h", "y": 1 + 60 / (130 * rows), "x": 0.75},
        margin={"l": 20, "r": 40, "t": 90, "b": 50},
    )  # fmt: skip


def fold_changes(held_out: Set, panels: Mapping[str, Set], symbols: Sequence[str]) -> go.Figure:
    """Log-fold changes of one tissue against the others: other profiles against those of held-out donors.

    The tissue is the one with the most held-out profiles; of one tissue there are none. Of many genes,
    ``DOTTED`` at even steps of rank are shown.

    Args:
        held_out: (n, n_genes) in the log unit, and labels. panels: title -> the same of other profiles; real training
            donors among them are the ceiling.
        symbols: a name per gene.
    """
    groups = {
        name: Groups.of(values, labels.astype(str)) for name, (values, labels) in {"": held_out, **panels}.items()
    }
    try:
        contrasts = one_against_others(*groups.values())
    except ValueError as error:  # one class, or classes of too few profiles
        return finish(go.Figure(), f"No log-fold changes: {error}", 120)
    largest = max(contrasts, key=groups[""].size)
    effects = {
        name: differential_expression(part, {largest: contrasts[largest]}).effect[0] for name, part in groups.items()
    }
    ours = effects.pop("")
    steps = np.linspace(0, len(ours) - 1, min(len(ours), DOTTED)).round().astype(int)
    genes = np.argsort(ours, kind="stable")[steps]
    columns = min(4, len(effects))
    rows = -(-len(effects) // columns)
    titles = [f"{name}  r {pd.Series(ours).corr(pd.Series(theirs)):.3f}" for name, theirs in effects.items()]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, shared_xaxes="all", shared_yaxes="all", horizontal_spacing=0.02,
        vertical_spacing=0.2 / rows,
    )  # fmt: skip
    ends = [float(ours.min()), float(ours.max())]
    colours = row_colours(effects)
    for i, (name, theirs) in enumerate(effects.items()):
        row, column = i // columns + 1, i % columns + 1
        line = go.Scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "width": 1}, hoverinfo="skip")
        dots = go.Scatter(
            x=rounded(ours[genes], 2), y=rounded(theirs[genes], 2), text=[str(symbols[gene]) for gene in genes],
            mode="markers", marker={"size": 3, "opacity": 0.6, "color": colours[name]},
            hovertemplate="%{text}: %{x} held-out, %{y}<extra></extra>",
        )  # fmt: skip
        figure.add_traces([line, dots], rows=[row, row], cols=[column, column])
    figure.update_xaxes(title_text="held-out donors, log2", row=rows)
    figure.update_yaxes(title_text="log2", col=1)
    return finish(figure, f"Log-fold changes, {largest} against the other tissues", 100 + 260 * rows, showlegend=False)
