"""The model card beside a trained model: what it was trained on, how, what it is for, and what is known of its faults.

A Markdown file with a YAML front matter, as model hubs read it (Mitchell et al. 2019, doi:10.1145/3287560.3287596).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from transcriptome_diffusion import __version__
from transcriptome_diffusion.artefacts import read_description, replaced_when_whole

if TYPE_CHECKING:
    from pandas import DataFrame

CARD_FILE = "model_card.md"
#: of the record, what stands in the card
TRAINED = ("run", "runs", "steps", "best_step", "seconds", "device", "parameters", "stopped")
#: rows of the scorecard that a model's own rows are compared with
BESIDE = ("real", "memoriser", "class_gaussian")
#: metrics of the excerpt, all against held-out donors
EXCERPT = ("precision", "recall", "spread", "two_sample_boosted", "balanced_accuracy_mlp", "within_class_correlation")

INTENDED = """\
Synthetic bulk RNA-seq profiles for the development and testing of methods, for teaching, and as additional training
data where this was shown to help on held-out donors. Profiles are drawn for the labels below and for no others.

Not for diagnosis, nor for conclusions about biology that real samples have not confirmed."""
LIMITS = """\
- The model knows the labels, genes and unit below. It does not extrapolate to other tissues, platforms or units.
- It reproduces the composition and the batch effects of its cohort.
- **Weights are not anonymous.** With fewer profiles than genes, arrays in this folder span the training profiles. Do
  not share the folder of a cohort whose members must stay unknown. Attacks that fail prove nothing."""


def model_card(description: Mapping[str, Any], scorecard: DataFrame | None = None, rows: tuple[str, ...] = ()) -> str:
    """The card as Markdown text.

    Args:
        description: of the model, as ``model.json`` has it.
        scorecard: in its long form; None where there is none.
        rows: the model's own rows on it, such as ``ddpm`` and ``ddim``.
    """
    record, conditions = description.get("record", {}), description.get("conditions", {})
    name, genes = str(description.get("name")), len(description.get("genes", {}).get("index", []))
    counts = record.get("training_labels") or []
    cohort = {
        "unit": description.get("unit"),
        "genes": genes,
        "training_profiles": sum(row[-1] for row in counts) or None,
        **record.get("cohort", {}),
    }
    facts: dict[str, Any] = {
        "license": "other",
        "license_name": "not-stated",
        "library_name": "transcriptome-diffusion",
        "tags": ["bulk-rna-seq", "gene-expression", "synthetic-data", name],
        "model_name": name,
        "transcriptome_diffusion": {
            "version": __version__,
            "cohort": cohort,
            "labels": {condition: list(known) for condition, known in conditions.items()},
            "training": {key: record[key] for key in TRAINED if key in record},
            "settings": description.get("settings", {}),
        },
    }
    tables = None
    if scorecard is not None and (tables := _scores(scorecard, rows)):
        facts["model-index"] = _index(scorecard, rows)
    listed = "\n".join(f"| {' | '.join(map(str, row))} |" for row in counts)
    heads = [*conditions, "training profiles"]
    return "\n\n".join(
        [
            f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---",
            f"# {name}: synthetic expression profiles",
            "The licence of the training data decides what may be done with this model; set `license` above.",
            f"## Intended use\n\n{INTENDED}",
            f"## Limits\n\n{LIMITS}",
            *([f"## Privacy\n\n{_privacy(record['privacy'])}"] if "privacy" in record else []),
            "## Training data\n\n"
            + ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in cohort.items() if value is not None)
            + (f"\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n{listed}" if counts else ""),
            "## Scores\n\n" + (tables or "Not scored: `kedro run`, or `transcriptome-diffusion describe --scorecard`."),
            "## Use\n\n```bash\ntranscriptome-diffusion generate --model FOLDER --total 100 --out profiles.h5ad\n```\n",
        ]
    )


def _privacy(facts: Mapping[str, Any]) -> str:
    """What the dial of `privacy` promises, as a list."""
    if facts["dial"] != "dp":
        taken = "all of the cohort" if facts["dial"] == "none" else "class means, scales of genes and class factors"
        return f"Fitted to {taken}, with axes of a public reference cohort. No bound on what it gives away is proved."
    bound = (
        f"({facts['epsilon']:g}, {facts['delta']:g})-differentially private: the sentence on weights does not apply."
    )
    listed = [f"- {key}: {facts[key]}" for key in ("protected", "neighbours", "released", "public")]
    return "\n".join([bound, "", *listed])


def write_card(folder: Path, scorecard: DataFrame | None = None, rows: tuple[str, ...] = ()) -> Path:
    """Write the card of the trained model in ``folder`` beside it; see ``model_card``.

    Raises:
        ArtefactError: if there is no model.
    """
    text = model_card(read_description(folder), scorecard, rows)
    with replaced_when_whole(folder / CARD_FILE) as staging:
        staging.write_text(text, encoding="utf-8")
    return folder / CARD_FILE


def write_cards(models: Path, scorecard: DataFrame) -> list[Path]:
    """Write the cards of all trained models below ``models`` (``data/06_models``) again, with their scores."""
    from transcriptome_diffusion.generators.registry import GENERATORS, model_name, trained_models

    written = []
    for model in trained_models():
        rows = tuple(name for name in GENERATORS if model_name(name) == model)
        for folder in sorted((models / model).glob("run_*")):
            written.append(write_card(folder, scorecard, rows))
    return written


def rows_of(name: str) -> tuple[str, ...]:
    """The rows that profiles of a model may have on a scorecard, by the name in its description."""
    from transcriptome_diffusion.generators.registry import GENERATORS

    return tuple(row for row, spec in GENERATORS.items() if name in (row, spec.load_class().name))


def _of(scorecard: DataFrame, rows: tuple[str, ...]) -> DataFrame:
    card = scorecard[scorecard["generator"].isin(rows) & scorecard["space"].eq("landmarks")]
    return card[card["mean"].notna()]


def _index(scorecard: DataFrame, rows: tuple[str, ...]) -> list[dict[str, Any]]:
    """The values in the form that model hubs index."""
    found = []
    for row, part in _of(scorecard, rows).groupby("generator", sort=False):
        chosen = part[part["metric"].isin(EXCERPT) & part["reference"].eq("test")]
        values = [
            {"type": m, "value": round(float(v), 4)} for m, v in zip(chosen["metric"], chosen["mean"], strict=True)
        ]
        if values:
            task = {"type": "other", "name": "generation of expression profiles"}
            dataset = {"type": "held-out-donors", "name": "held-out donors of the training cohort"}
            found.append({"name": str(row), "results": [{"task": task, "dataset": dataset, "metrics": values}]})
    return found


def _scores(scorecard: DataFrame, rows: tuple[str, ...]) -> str | None:
    """Two Markdown tables, against held-out donors and of the attacks; None if no row is there."""
    if _of(scorecard, rows).empty:
        return None
    beside = tuple(name for name in BESIDE if name not in rows)
    part = _of(scorecard, (*beside, *rows))
    attacks = sorted(metric for metric in part["metric"].unique() if metric.endswith("_auc"))
    tested = part[part["reference"].eq("test") & part["metric"].isin(EXCERPT)]
    attacked = part[part["reference"].eq("train") & part["metric"].isin(attacks)]
    return "\n\n".join(
        [
            "On landmark genes, against held-out donors. Compare with `real`: closer is better, higher is not.",
            _table(tested, [metric for metric in EXCERPT if metric in set(tested["metric"])]),
            "Membership attacks: .5 recognises nobody, 1 recognises every training donor.",
            _table(attacked, attacks),
        ]
    )


def _table(part: DataFrame, metrics: list[str]) -> str:
    wide = part.pivot_table(index="generator", columns="metric", values="mean", sort=False)[metrics]
    lines = [
        f"| {row} | {' | '.join(f'{value:.3f}' if value == value else '–' for value in values)} |"
        for row, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return "\n".join([f"| profiles of | {' | '.join(metrics)} |", f"|{'---|' * (len(metrics) + 1)}", *lines])
