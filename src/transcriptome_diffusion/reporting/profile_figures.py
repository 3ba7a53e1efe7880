"""The figures that are drawn from profiles: maps, correlations, distributions, differences between labels."""

from __future__ import annotations

from collections.abc import Mapping

import anndata as ad
import plotly.graph_objects as go

from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.reporting import genes, maps


def profile_figures(
    train: ad.AnnData,
    test: ad.AnnData,
    scaler: GeneScaler,
    synthetic: Mapping[str, ad.AnnData],
    label: str,
    umap: bool = False,
) -> dict[str, go.Figure]:
    """Maps of held-out and synthetic profiles, and their genes, by the names that the report gives them.

    Args:
        train, test: real profiles (n, n_genes) in the log unit. synthetic: the same by the name of their row.
        scaler: from the log unit to training standard deviations. label: column of ``obs``.
        umap: whether a UMAP is drawn as well.
    """
    sets = {name: (dense(part), part.obs[label].astype(str).to_numpy()) for name, part in synthetic.items()}
    ours, theirs = ((dense(part), part.obs[label].astype(str).to_numpy()) for part in (train, test))
    symbols = train.var["symbol"].tolist()
    placed = {name: (scaler(values), labels) for name, (values, labels) in sets.items()}
    standardised = scaler(ours[0]), scaler(theirs[0]), theirs[1], placed
    return {
        "pca_landmarks": maps.pca_comparison(*standardised),
        "umap_landmarks": maps.umap_comparison(*standardised) if umap else maps.umap_on_request(),
        "correlations": genes.correlation_maps(ours, {"held-out donors": theirs, **sets}, symbols),
        "marginals": genes.marginal_densities(
            ours[0],
            theirs[0],
            {name: values for name, (values, _) in sets.items()},
            symbols,
            str(train.uns["unit"]),
        ),
        "fold_changes": genes.fold_changes(theirs, {"real": ours, **sets}, symbols),
    }
