"""How well a reconstruction meets the real values, gene by gene and over all genes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.profiles import GENE_COLUMNS
from transcriptome_diffusion.expression.scaling import GeneScaler

#: genes per block, in float64
BLOCK = 2048
#: quantiles of R² over genes in the summary
QUANTILES = (0.05, 0.25, 0.75, 0.95)
CONSTANT = "constant among the real profiles"


def by_gene(real: np.ndarray, rebuilt: np.ndarray, scaler: GeneScaler, genes: pd.DataFrame) -> pd.DataFrame:
    """Errors and explained variance of every rebuilt gene, both arrays (n_samples, n_genes) in the log unit.

    Args:
        scaler: of the training profiles' same genes. genes: their table, one row per gene.

    Returns:
        One row per gene: ``symbol``, ``entrez_id`` and ``ensembl_id`` as far as ``genes`` has them;
        ``r2``, 1 - residual sum of squares / total sum of squares among the real samples; ``pearson``, 0 where
        the rebuilt gene is constant; ``mae``, ``rmse`` in the log unit; ``mae_standardised`` in training standard
        deviations (the unit of Lacan et al. 2026); ``mean`` and ``sd`` of the real samples. For a gene that does
        not vary among them ``r2`` and ``pearson`` are missing, and ``note`` says so.

    Raises:
        ValueError: if the shapes differ, or values are not finite.
    """
    if real.shape != rebuilt.shape or real.ndim != 2 or real.shape[1] != len(genes):
        raise ValueError(
            f"expected real and rebuilt profiles of one shape for {len(genes)} genes, found {real.shape} and "
            f"{rebuilt.shape}; select the same samples and targets from both."
        )
    columns = ("r2", "pearson", "mae", "rmse", "mae_standardised", "mean", "sd")
    found = {name: np.full(len(genes), np.nan) for name in columns}
    for start in range(0, len(genes), BLOCK):
        block = slice(start, start + BLOCK)
        y, error = real[:, block].astype(np.float64), rebuilt[:, block].astype(np.float64)
        varies, responds = (part.max(axis=0) > part.min(axis=0) for part in (y, error))
        mean = y.mean(axis=0)
        centred, guess = y - mean, error - error.mean(axis=0)
        error -= y
        total = np.where(varies, np.einsum("ij,ij->j", centred, centred), np.nan)
        squared = np.einsum("ij,ij->j", error, error)
        length = np.sqrt(total * np.einsum("ij,ij->j", guess, guess))
        found["r2"][block] = 1 - squared / total
        found["pearson"][block] = np.where(
            responds, np.einsum("ij,ij->j", centred, guess) / np.where(responds, length, 1), total * 0
        )
        found["mae"][block] = np.abs(error).mean(axis=0)
        found["rmse"][block] = np.sqrt(squared / len(y))
        found["mean"][block] = mean
        found["sd"][block] = np.where(varies, np.sqrt(np.nan_to_num(total) / len(y)), 0)
    found["mae_standardised"] = found["mae"] / scaler.scale
    if not np.isfinite(found["mae"]).all():
        raise ValueError(
            f"{int((~np.isfinite(found['mae'])).sum())} genes hold NaN or infinite values, the first is "
            f"{genes.index[~np.isfinite(found['mae'])][0]!r}; impute or drop them before the evaluation."
        )
    described = genes[[name for name in GENE_COLUMNS[:3] if name in genes]]
    return described.assign(**found, note=np.where(np.isnan(found["r2"]), CONSTANT, ""))


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """A table of ``by_gene`` in a dozen numbers.

    - ``mae``, ``rmse`` in the log unit and ``mae_standardised``: over all genes and samples.
    - mean and median over genes of R² and Pearson's correlation, and quantiles of R²; genes that do not vary among
      the real samples are left out, ``genes_left_out`` is their number.

    Raises:
        ValueError: if no gene varies among the real samples.
    """
    defined = table.loc[table["r2"].notna()]
    if defined.empty:
        raise ValueError(f"none of {len(table)} target genes varies among the real samples; R² is undefined.")
    return {
        "mae": float(table["mae"].mean()),
        "mae_standardised": float(table["mae_standardised"].mean()),
        "rmse": float(np.sqrt(np.square(table["rmse"]).mean())),
        "r2_mean": float(defined["r2"].mean()),
        "r2_median": float(defined["r2"].median()),
        **{f"r2_q{round(100 * q):02d}": float(defined["r2"].quantile(q)) for q in QUANTILES},
        "pearson_mean": float(defined["pearson"].mean()),
        "pearson_median": float(defined["pearson"].median()),
        "genes_left_out": float(len(table) - len(defined)),
    }
