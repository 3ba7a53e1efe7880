"""Training, validation and test samples, split by donor."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedGroupKFold, train_test_split

from transcriptome_diffusion.expression.options import SplitOptions

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


def split_profiles(profiles: ad.AnnData, options: SplitOptions) -> dict[str, ad.AnnData]:
    """Split profiles into ``train``, ``validation`` and ``test``; samples keep their order within each.

    ``donor`` keeps all samples of a donor together and balances the tissues over the folds
    (scikit-learn's StratifiedGroupKFold). ``random`` is the paper's split of samples: Lacan et al. (2026),
    doi:10.1186/s12859-026-06470-8; with several samples per donor it leaks from train into test. With ``sizes`` it
    draws as the authors' code does, the test part first: scikit-learn's train_test_split twice, not stratified.

    Args:
        profiles: (n_samples, n_genes) with ``obs["tissue"]`` and ``obs["donor"]``.
        options: number of folds, how many of them are test and validation, or the sizes, and the seed.

    Returns:
        Views of the profiles, which copy nothing until they are copied.

    Raises:
        ValueError: if a tissue has fewer donors (``random``: samples) than folds, or is absent from a split; if
            the sizes do not add up to the cohort.
    """
    tissue, donor = (profiles.obs[column].astype(str) for column in ("tissue", "donor"))
    rows = _by_folds(profiles, tissue, donor, options) if options.sizes is None else _by_sizes(profiles.n_obs, options)
    splits = {name: profiles[rows[name]] for name in SPLITS}
    _check(splits, tissue, options)
    logger.info(
        "Split %d samples by %s: %s",
        profiles.n_obs,
        options.strategy,
        ", ".join(f"{name} {part.n_obs}" for name, part in splits.items()),
    )
    return splits


def _by_sizes(n_samples: int, options: SplitOptions) -> dict[str, np.ndarray]:
    """Rows of each part, in their order, for a split of samples into parts of given sizes."""
    sizes = options.sizes
    assert sizes is not None
    if n_samples < sizes.total or (n_samples > sizes.total and sizes.surplus == "refuse"):
        raise ValueError(
            f"the cohort has {n_samples} samples, and the sizes of the split add up to {sizes.total} "
            f"({sizes.train} train, {sizes.validation} validation, {sizes.test} test). Is it the release they were "
            "made for? Set `split.sizes` to sizes that add up, or to null for a split by folds."
        )
    if n_samples > sizes.total:
        logger.warning(
            "%d samples are left out of the split: it has sizes for %d", n_samples - sizes.total, sizes.total
        )
    rest, test = train_test_split(
        np.arange(n_samples), test_size=sizes.test, train_size=sizes.total - sizes.test, random_state=options.seed
    )
    train, validation = train_test_split(
        rest, test_size=sizes.validation, train_size=sizes.train, random_state=options.seed
    )
    return {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}


def _by_folds(
    profiles: ad.AnnData, tissue: pd.Series, donor: pd.Series, options: SplitOptions
) -> dict[str, np.ndarray]:
    """A mask of rows for each part, for a split of donors or samples into folds."""
    unit = donor if options.strategy == "donor" else pd.Series(profiles.obs_names, profiles.obs_names)
    what = "donors" if options.strategy == "donor" else "samples"
    available = unit.groupby(tissue).nunique()
    scarce = available[available < options.n_folds]
    if len(scarce):
        raise ValueError(
            f"too few {what} to split into {options.n_folds} folds: "
            + ", ".join(f"{name} has {count}" for name, count in scarce.items())
            + ". Lower n_folds, raise min_samples_per_tissue, or join the tissue with another."
        )
    splitter = StratifiedGroupKFold if options.strategy == "donor" else KFold
    folds = splitter(options.n_folds, shuffle=True, random_state=options.seed)
    groups = donor if options.strategy == "donor" else None
    member = np.empty(profiles.n_obs, dtype=int)
    for fold, (_, held_out) in enumerate(folds.split(tissue, tissue, groups)):
        member[held_out] = fold
    held = options.test_folds + options.validation_folds
    return {
        "train": member >= held,
        "validation": (member >= options.test_folds) & (member < held),
        "test": member < options.test_folds,
    }


def summarise_splits(splits: dict[str, ad.AnnData]) -> pd.DataFrame:
    """One row per tissue and split, and per split over all tissues (``all``): ``samples`` and ``donors``."""
    rows = []
    for name, part in splits.items():
        groups = [("all", part.obs), *part.obs.groupby(part.obs["tissue"].astype(str))]
        rows += [(tissue, name, len(obs), obs["donor"].nunique()) for tissue, obs in groups]
    table = pd.DataFrame(rows, columns=["tissue", "split", "samples", "donors"])
    order = {name: place for place, name in enumerate(splits)}
    return table.sort_values(["tissue", "split"], key=lambda column: column.map(order).fillna(column)).reset_index(
        drop=True
    )


def _check(splits: dict[str, ad.AnnData], tissue: pd.Series, options: SplitOptions) -> None:
    for name, part in splits.items():
        if missing := sorted(set(tissue) - set(part.obs["tissue"].astype(str))):
            raise ValueError(
                f"no sample of {missing} fell into {name}; lower n_folds (or change sizes), or take another seed than "
                f"{options.seed}."
            )
    if options.strategy == "donor":
        seen = pd.concat([part.obs["donor"].astype(str).drop_duplicates() for part in splits.values()])
        if seen.duplicated().any():
            raise AssertionError(f"donors in two splits: {sorted(seen[seen.duplicated()])[:3]}")
