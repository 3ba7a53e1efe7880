"""The class label of every sample: the column ``tissue``, chosen and cleaned in one place for every cohort."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping

import anndata as ad
import pandas as pd

from transcriptome_diffusion.expression.options import IngestionOptions

logger = logging.getLogger(__name__)

#: words that stand for a missing value in sample tables, in lower case and without brackets and quotation marks
PLACEHOLDERS = {"", "-", "--", "---", ".", "?", "na", "n/a", "#n/a", "nan", "none", "null", "missing", "unknown"}
PLACEHOLDERS |= {
    f"not {word}" for word in ("available", "reported", "applicable", "collected", "evaluated", "provided")
}


def label_samples(cohort: ad.AnnData, options: IngestionOptions) -> ad.AnnData:
    """Write ``obs["tissue"]`` from the column ``options.label`` and drop the samples without a label.

    Words such as ``NA`` or ``not reported`` stand for no label, and no donor; one label in two spellings is one class.
    The result shares the cohort's values: a copy of all of them would be gigabytes, and is not needed.

    Args:
        cohort: (n_samples, n_genes); ``obs`` holds the column of the label, and ``donor``.
        options: ``label``; ``tissues``, values of it to tissue names, or None to keep the values.

    Raises:
        ValueError: if there is no such column, no sample has a label, or a labelled sample has no donor.
    """
    column = options.label
    if column not in cohort.obs:
        raise ValueError(
            f"the cohort has no column {column!r} for the class label but {list(cohort.obs)}. Set `ingestion.label` to "
            f"one of these in conf/<env>/parameters_ingestion.yml, or deliver {column!r} (for a cohort of your own: "
            f"name it in `columns` in the catalog, as in columns: {{{column}: ...}})."
        )
    aliases = {spelling_key(other): name for other, name in options.aliases.items()}
    values = as_text(cohort.obs[column]).map(lambda value: aliases.get(spelling_key(value), value))
    values = unify_spelling(values)
    _report_alike(values)
    tissue = values if options.tissues is None else _mapped(values, options.tissues, column)
    labelled = (tissue != "").to_numpy()
    if not labelled.any():
        raise ValueError(f"no sample has a label in column {column!r} of the cohort.")
    if unlabelled := list(cohort.obs_names[(values == "").to_numpy()]):
        logger.warning(
            "Left out %d of %d samples without a label in column %r: %s",
            len(unlabelled),
            cohort.n_obs,
            column,
            ", ".join(unlabelled[:10]),
        )
    obs = cohort.obs.assign(tissue=tissue)
    if "donor" in obs:
        obs["donor"] = unify_spelling(as_text(obs["donor"]), "donors")
        nameless = labelled & (obs["donor"] == "").to_numpy()
        if nameless.any():
            raise ValueError(
                f"{nameless.sum()} samples have no donor, for instance {obs.index[nameless][0]!r}; donors keep samples "
                "of one person on one side of the split. Complete the sample table, or name another column for `donor`."
            )
    result = ad.AnnData(X=cohort.X, obs=obs, var=cohort.var, uns=dict(cohort.uns))
    return result if labelled.all() else result[labelled]


def as_text(column: pd.Series) -> pd.Series:
    """A column as text without outer blanks, "" where a value is missing or one of ``PLACEHOLDERS``."""
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    bare = text.str.lower().str.strip("[]()<>'\" ")
    return text.mask(bare.isin(PLACEHOLDERS), "")


def spelling_key(label: str) -> str:
    """What labels of one meaning share: no capitals, no accents, one blank for blanks, dashes and underscores.

    Signs at the end of a word stay, since ``ER+`` and ``ER-`` are two classes.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", label) if not unicodedata.combining(c))
    return re.sub(r"(?<=\w)[\s_\-\u2010-\u2015]+(?=\w)|_", " ", plain).strip().casefold()


def unify_spelling(values: pd.Series, what: str = "labels") -> pd.Series:
    """Labels, or donors, that differ in capitals, accents, blanks or dashes alone, in their most frequent spelling.

    The log names what was joined.
    """
    counts = values[values != ""].value_counts()
    spellings: dict[str, list[str]] = {}
    for label in sorted(counts.index, key=lambda label: (-counts[label], label)):
        spellings.setdefault(spelling_key(label), []).append(label)
    joined = {variant: first for first, *others in spellings.values() for variant in others}
    if not joined:
        return values
    said = [f"{other!r} ({counts[other]}) as {first!r} ({counts[first]})" for other, first in joined.items()]
    logger.warning("Joined %s that differ in spelling alone: %s", what, "; ".join(said[:20]))
    return values.replace(joined)


def _report_alike(values: pd.Series) -> None:
    """Say which labels may be one in two words: plurals, British and American spelling, brackets."""
    alike: dict[str, list[str]] = {}
    for label in sorted(set(values) - {""}):
        key = re.sub(r"[\s()\[\]/\-]+(?!$)", "", spelling_key(label)).rstrip("s)")
        key = key.replace("oe", "e").replace("our", "or")
        alike.setdefault(key, []).append(label)
    if pairs := [" and ".join(map(repr, labels)) for labels in alike.values() if len(labels) > 1]:
        logger.warning("Labels that may mean the same: %s; join them with `ingestion.aliases`", "; ".join(pairs[:10]))


def _mapped(values: pd.Series, tissues: Mapping[str, str], column: str) -> pd.Series:
    """The tissues that the values stand for, "" for values without one, which the log names."""
    by_spelling = {spelling_key(value): tissue for value, tissue in tissues.items()}
    tissue = values.map(lambda value: tissues.get(value, by_spelling.get(spelling_key(value), "")))
    unmapped = values[(tissue == "") & (values != "")].value_counts()
    if (tissue == "").all():
        raise ValueError(
            f"none of the values {sorted(unmapped.index)[:40]} of column {column!r} is among those that "
            f"`ingestion.tissues` names: {sorted(tissues)}."
        )
    if len(unmapped):
        logger.info(
            "Dropped %d samples whose %s has no tissue in `ingestion.tissues`: %s",
            unmapped.sum(),
            column,
            counted(unmapped),
        )
    return tissue


def counted(counts: pd.Series) -> str:
    """``liver (3), lung (4)``: names with their counts, at most 30."""
    more = f" and {len(counts) - 30} others" if len(counts) > 30 else ""
    return ", ".join(f"{name} ({count})" for name, count in counts.sort_index().head(30).items()) + more
