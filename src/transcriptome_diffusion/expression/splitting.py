"""Training, validation and test samples, split by donor."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from sklearn.model_selection import KFold, StratifiedGroupKFold, train_test_split

from transcriptome_diffusion.expression.options import SplitOptions
from transcriptome_diffusion.expression.profiles import BLOCK, blocks_of, dense

logger = logging.getLogger(__name__)

#: correlation from which two profiles are one sample's, and genes on which candidates are looked for
TWIN, TWIN_GENES = 0.999, 512
#: principal axes on which candidates are told apart first, and samples that these are of
TWIN_AXES, TWIN_SAMPLES = 16, 2000
SPLITS = ("train", "validation", "test")


def find_twins(profiles: ad.AnnData) -> list[tuple[str, str]]:
    """Pairs of samples of different donors whose profiles are nearly the same: one sample under two names.

    Fewer than ``TWIN_GENES`` genes tell nothing, and give no pair. Candidates are found on some hundred genes, and
    kept if the Pearson correlation over all genes exceeds ``TWIN``. Missing values are taken for zero.

    Args:
        profiles: (n_samples, n_genes) in a logarithmic unit, with ``obs["donor"]``.
    """
    if profiles.n_vars < TWIN_GENES:
        return []
    some = slice(None, None, -(-profiles.n_vars // TWIN_GENES))
    few = np.concatenate([_standardised(block[:, some]) for _, block in blocks_of(profiles)])
    donor = profiles.obs["donor"].astype(str).to_numpy()
    # rows whose correlation is r are sqrt(2 - 2 r) apart, and along some axes no farther
    limit, sample = TWIN - 0.002, few[:: -(-len(few) // TWIN_SAMPLES)]
    along = few @ np.linalg.eigh(sample.T @ sample)[1][:, -TWIN_AXES:]
    tree, radius = KDTree(along), float(np.sqrt(2 - 2 * limit))
    twins = []
    for start in range(0, len(few), BLOCK):
        for first, near in enumerate(tree.query_ball_point(along[start : start + BLOCK], radius), start):
            others = np.array(sorted(second for second in near if second > first), dtype=int)
            for second in others[few[others] @ few[first] > limit]:
                if donor[first] != donor[second]:
                    pair = _standardised(dense(profiles[[first, second]]))
                    if pair[0] @ pair[1] > TWIN:
                        twins.append((str(profiles.obs_names[first]), str(profiles.obs_names[second])))
    return twins


def _standardised(values: np.ndarray) -> np.ndarray:
    """Rows (n_samples, n_genes) of mean 0 and length 1, so that their products are correlations."""
    centred = np.nan_to_num(values).astype(np.float32)
    centred -= centred.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def assign_splits(obs: pd.DataFrame, options: SplitOptions, twins: Sequence[tuple[str, str]] = ()) -> pd.DataFrame:
    """Which samples are for training, validation and test; only their labels and donors are looked at.

    ``donor`` keeps all samples of a donor together and balances the tissues over the folds
    (scikit-learn's StratifiedGroupKFold). ``random`` is the paper's split of samples: Lacan et al. (2026),
    doi:10.1186/s12859-026-06470-8; with several samples per donor it leaks from train into test. With ``sizes`` it
    draws as the authors' code does, the test part first: scikit-learn's train_test_split twice, not stratified.

    Args:
        obs: the sample table of a cohort, with ``tissue`` and ``donor``.
        options: number of folds, how many of them are test and validation, or the sizes, and the seed.
        twins: pairs of samples whose donors count as one.

    Returns:
        One row per sample, in order: ``sample``, ``tissue``, ``donor`` and ``split`` (``train``, ``validation``,
        ``test``). Samples beyond the sizes are left out.

    Raises:
        ValueError: if a tissue has fewer donors (``random``: samples) than folds, or is absent from a split; if
            the sizes do not add up to the cohort.
    """
    table = obs[["tissue", "donor"]].astype(str).rename_axis("sample").reset_index()
    people = _join_donors(table, twins)
    table["split"] = (
        _by_folds(table.assign(donor=people), options) if options.sizes is None else _by_sizes(len(table), options)
    )
    _check(table, options)
    table = table[table["split"] != ""].reset_index(drop=True)
    sizes = table["split"].value_counts()
    logger.info(
        "Split %d samples by %s: %s",
        len(obs),
        options.strategy,
        ", ".join(f"{name} {sizes[name]}" for name in SPLITS),
    )
    return table


def _join_donors(table: pd.DataFrame, twins: Sequence[tuple[str, str]]) -> pd.Series:
    """The donors of samples; those of twins get the name of the first of them."""
    donor = table.set_index("sample")["donor"]
    if not twins:
        return table["donor"]
    logger.warning(
        "%d pairs of samples of different donors have the same profile (r > %s); they are kept on one side: %s",
        len(twins),
        TWIN,
        ", ".join(f"{first} and {second}" for first, second in twins[:5]),
    )
    names, codes = np.unique(donor.to_numpy(), return_inverse=True)
    places = dict(zip(donor.index, codes, strict=True))
    rows, columns = ([places[pair[side]] for pair in twins] for side in (0, 1))
    links = coo_array((np.ones(len(twins)), (rows, columns)), shape=(len(names), len(names)))
    _, groups = connected_components(links, directed=False)
    first_name = pd.Series(names).groupby(groups).first()
    return pd.Series(first_name[groups[codes]].to_numpy(), index=table.index)


def take_splits(profiles: ad.AnnData, table: pd.DataFrame) -> dict[str, ad.AnnData]:
    """The parts of ``profiles`` that the table of ``assign_splits`` names, as views, which copy nothing.

    Raises:
        ValueError: if the table names a sample that is not in the profiles.
    """
    if len(absent := pd.Index(table["sample"]).difference(profiles.obs_names)):
        raise ValueError(
            f"the split names {len(absent)} samples that the cohort lacks, for instance {absent[0]!r}. It was made for "
            "another cohort: run the ingestion from its first node."
        )
    rows = profiles.obs_names.get_indexer(table["sample"])
    return {name: profiles[rows[table["split"] == name]] for name in SPLITS}


def _by_sizes(n_samples: int, options: SplitOptions) -> np.ndarray:
    """The part of each sample ("" for none), for a split of samples into parts of given sizes."""
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
    part = np.full(n_samples, "", dtype=object)
    for name, rows in (("train", train), ("validation", validation), ("test", test)):
        part[rows] = name
    return part


def _by_folds(table: pd.DataFrame, options: SplitOptions) -> np.ndarray:
    """The part of each sample, for a split of donors or samples into folds."""
    tissue, donor = table["tissue"], table["donor"]
    unit = donor if options.strategy == "donor" else table["sample"]
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
    member = np.empty(len(table), dtype=int)
    for fold, (_, held_out) in enumerate(folds.split(tissue, tissue, groups)):
        member[held_out] = fold
    held_out_folds = options.test_folds + options.validation_folds
    return np.select([member < options.test_folds, member < held_out_folds], ["test", "validation"], "train")


def summarise_splits(table: pd.DataFrame) -> pd.DataFrame:
    """One row per tissue and split, and per split over all tissues (``all``): ``samples`` and ``donors``."""
    both = pd.concat([table.assign(tissue="all"), table])
    counts = both.groupby(["tissue", "split"]).agg(samples=("sample", "size"), donors=("donor", "nunique"))
    order = {name: place for place, name in enumerate(SPLITS)}
    return counts.reset_index().sort_values(
        ["tissue", "split"], key=lambda column: column.map(order).fillna(column), ignore_index=True
    )


def _check(table: pd.DataFrame, options: SplitOptions) -> None:
    for name in SPLITS:
        if missing := sorted(set(table["tissue"]) - set(table.loc[table["split"] == name, "tissue"])):
            raise ValueError(
                f"no sample of {missing} fell into {name}; lower n_folds (or change sizes), or take another seed than "
                f"{options.seed}."
            )
    if options.strategy == "donor" and (table.groupby("donor")["split"].nunique() > 1).any():
        raise AssertionError("a donor is in two splits")
