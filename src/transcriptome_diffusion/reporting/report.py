"""The report: one HTML file that opens without a network, beginning with the scorecard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
import yaml

from transcriptome_diffusion import __version__
from transcriptome_diffusion.reporting.figures import ATTACKS
from transcriptome_diffusion.reporting.guide import GUIDE, explain, grouped, label
from transcriptome_diffusion.reporting.page import embedded, folded, page, plain_table
from transcriptome_diffusion.reporting.scorecard import HEADLINE, as_rows, cells, marks, role, wide


class Section(NamedTuple):
    """A heading, what to look for, and the figures below, by name."""

    anchor: str
    title: str
    text: str
    figures: tuple[str, ...]


SECTIONS = (
    Section(
        "maps",
        "Real and synthetic profiles",
        "Held-out donors lie in grey below every panel. Axes come from training donors alone. Two principal "
        "components show a small part of the differences; UMAP places a profile among its nearest training donors, so "
        "look for missing or misplaced groups, not for distances. Click a tissue in the legend to hide it, twice to "
        "see it alone.",
        ("pca_landmarks", "umap_landmarks"),
    ),
    Section(
        "trajectory",
        "From noise to profiles",
        "What the sampler of the diffusion model holds on its way from noise to profiles (the paper's figure 2). Pure "
        "noise knows no tissue; tissues part early, their inner structure late. Mind the ranges of the axes: noise is "
        "equally wide in every direction, and small beside the differences between tissues.",
        ("trajectory",),
    ),
    Section(
        "plane",
        "Precision and recall",
        "The star is where real donors lie. Bars are standard deviations. To its lower right, samples scatter; to its "
        "upper left, they are shrunken.",
        ("precision_recall",),
    ),
    Section(
        "utility",
        "Use as training data",
        "A tissue classifier that saw only synthetic profiles is tested on held-out donors (the paper's figure 4); "
        "beside it one that saw real and synthetic profiles. Every dot is one classifier. Clean, typical profiles are "
        "good teachers, so high values here do not show realism.",
        ("accuracies", "by_tissue"),
    ),
    Section(
        "genes",
        "Genes together and alone",
        "Correlations within tissues, genes ordered by the training donors: the second panel is what agreement looks "
        "like between real donors at this sample size. Below, each generator's best and worst genes; the best agree as "
        "far as chance allows, the worst show what is wrong (a shift, a lost second hump, too little width).",
        ("correlations", "marginals"),
    ),
    Section(
        "biology",
        "Differences between tissues, modules of genes",
        "Differences of tissue means are easy: compare every panel with the first, two sets of real donors. Whether "
        "modules of genes hold together within a tissue separates generators better.",
        ("fold_changes", "modules"),
    ),
)

COMPARED = {
    ("landmarks", "test"): "Landmark genes against held-out donors",
    ("landmarks", "train"): "Landmark genes against training donors, the paper's protocol, in which copies win",
    ("transcriptome", "test"): "All genes against held-out donors",
    ("transcriptome", "train"): "All genes against training donors, in which copies win",
}


def build_report(
    scorecard: pd.DataFrame,
    privacy: pd.DataFrame,
    cohort: pd.DataFrame,
    reconstruction: pd.DataFrame,
    trainings: pd.DataFrame,
    figures: Mapping[str, go.Figure],
    curves: Sequence[go.Figure],
    facts: Mapping[str, object],
    settings: Mapping[str, Any],
) -> str:
    """The whole report as HTML text.

    Args:
        scorecard: the long table of ``reporting.scorecard``.
        privacy: indicators of privacy per generator and run.
        cohort: samples and donors per tissue and split.
        reconstruction: quality of the reconstruction from real held-out landmarks.
        trainings: one row per training run, ``reporting.training_log.summary``.
        figures: Plotly figures by the names that ``SECTIONS`` gives them, and ``privacy``, ``privacy_by_time``,
            ``reconstruction_by_gene``; those that are missing are left out.
        curves: the training curves, a figure per generator.
        facts: what the run was about, shown at the top.
        settings: parameters of the run, by block.
    """
    card = pd.concat([scorecard, as_rows(privacy)], ignore_index=True) if len(privacy) else scorecard
    parts = [
        ("scorecard", "Scorecard", _opening(card)),
        *(
            (section.anchor, section.title, f"<p>{section.text}</p>" + _all_embedded(figures, section.figures))
            for section in SECTIONS
            if any(name in figures for name in section.figures)
        ),
        ("privacy", "Privacy", _privacy(privacy, figures)),
        (
            "reconstruction",
            "From landmarks to all genes",
            "<p>From real landmarks of held-out donors, so that only the reconstruction is judged. Genes with a low R² "
            "are those that the panel cannot tell.</p>"
            + plain_table(reconstruction)
            + _all_embedded(figures, ["reconstruction_by_gene"]),
        ),
        (
            "training",
            "Training",
            "<p>How every training ended; curves show the loss on training and on validation donors.</p>"
            + plain_table(trainings)
            + folded("Training curves", "".join(embedded(figure, f"curve-{i}") for i, figure in enumerate(curves))),
        ),
        (
            "cohort",
            "Cohort and settings",
            folded("Samples and donors by tissue and split", plain_table(cohort))
            + folded("Parameters of this run", f"<pre>{escape(_as_yaml(settings))}</pre>"),
        ),
        ("guide", "How to read the numbers", guide_table()),
    ]
    contents = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in parts)
    body = "".join(f'<h2 id="{anchor}">{escape(title)}</h2>{content}' for anchor, title, content in parts[1:])
    told = " · ".join(f"{escape(str(k))}: {escape(str(v))}" for k, v in facts.items())
    return page(
        "Synthetic expression profiles",
        f'<h1>Synthetic expression profiles</h1><p class="facts">{told} · transcriptome-diffusion {escape(__version__)}'
        f"</p><nav>{contents}</nav><div id='scorecard'>{parts[0][2]}</div>{body}",
    )


def scorecard_table(scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None) -> str:
    """One space and reference as an HTML table: roles tinted and named, the closest to ``real`` marked.

    Hovering over a number shows its size, runs and interval; over a dash, why there is no number; over a
    column's head, what it means.
    """
    metrics = None if metrics is None else [*metrics]
    texts = cells(scorecard, space, reference, metrics)
    found = marks(scorecard, space, reference, metrics).to_numpy()
    details = {what: wide(scorecard, space, reference, what, metrics).to_numpy() for what in DETAILS}
    head = "".join(f'<th title="{escape(_hint(m))}">{escape(label(m))}</th>' for m in map(str, texts))
    body = []
    for i, row in enumerate(map(str, texts.index)):
        what = role(row)
        word = what.partition(":")[0]
        style = {"ceiling": "real", "floor": "floor", "warning": "warning"}.get(word, "oracle" if what else "")
        tag = f'<span class="tag" title="{escape(what)}">{escape(word if style != "oracle" else "oracle")}</span>'
        numbers = "".join(
            _cell(text, found[i][j], {name: block[i][j] for name, block in details.items()})
            for j, text in enumerate(texts.iloc[i])
        )
        body.append(f'<tr class="{style}"><td>{escape(row)}{tag if what else ""}</td>{numbers}</tr>')
    table = (
        f'<table class="card"><thead><tr><th>profiles of</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )
    return f'<div class="scroll">{table}</div>'


#: columns of the scorecard that hovering shows
DETAILS = ("n", "runs", "low", "high", "note")


def _cell(text: str, mark: str, details: Mapping[str, Any]) -> str:
    known = {name: value for name, value in details.items() if not pd.isna(value) and value != ""}
    if text == "–":
        return f'<td class="missing" title="{escape(str(known.get("note", "not computed for this row")))}">–</td>'
    told = [f"n = {int(known['n'])}"] if "n" in known else []
    if known.get("runs", 1) > 1:
        told.append(f"{int(known['runs'])} trainings")
    if "low" in known and "high" in known:
        told.append(f"95 % interval {known['low']:.3f} to {known['high']:.3f}")
    mean, _, spread = text.partition(" ")
    small = f"<small>{spread}</small>" if spread else ""
    near = "≈ " if "real" in mark.split() else ""
    style = mark.removesuffix("real").strip()
    return f'<td class="{style}" title="{escape(", ".join(told))}">{near}{mean}{small}</td>'


def _hint(metric: str) -> str:
    if found := explain(metric):
        return f"{found[1].what} {found[1].values}"
    return metric.replace("_", " ")


def _as_yaml(settings: Mapping[str, Any]) -> str:
    """Block by block, so that what two blocks share is written out in both."""
    return "".join(yaml.safe_dump({name: settings[name]}, sort_keys=False) for name in sorted(settings))


def _opening(card: pd.DataFrame) -> str:
    """The first table, how to read it, and all indicators folded below."""
    size = int(card.query("space == 'landmarks' and reference == 'test'")["n"].min())
    parts = [
        f"<h3>{COMPARED['landmarks', 'test']}, {size} profiles on each side</h3>",
        "<p>Read every column against the row <b>real</b>: training donors scored as if they were synthetic. The "
        "aim is to be <em>close</em> to it, not beyond. The floors are simple generators that a trained model has to "
        "beat; the memoriser hands out training profiles, and looks perfect except for copying and attacks.</p>",
        scorecard_table(card, "landmarks", "test"),
        '<div class="key"><span><b class="best">closest</b> to real, told apart from the floors and all others</span>'
        '<span><b class="shared">shared</b> closest, not told apart from another generator</span>'
        "<span><b>≈</b> not told apart from real</span><span><b>–</b> no number; the reason on hovering</span></div>",
        f"<p>{_verdict(card)}</p>",
        f'<p class="note">Mean ± s.d. {_spread_over(card)} Two numbers are told apart if they differ by more '
        "than twice the root of the sum of their squared deviations; where a number has no deviation, its 95 % "
        "interval stands in.</p>",
    ]
    for (space, reference), title in COMPARED.items():
        part = card[(card["space"] == space) & (card["reference"] == reference)]
        if part.empty:
            continue
        known = [
            m for m in part["metric"].unique() if not m.endswith(tuple(f"{a}_{b}" for a in ATTACKS for b in RATES))
        ]
        tables = [f"<p class='note'>{int(part['n'].min())} profiles on each side, same composition of tissues.</p>"]
        if (space, reference) != ("landmarks", "test"):
            tables.append(scorecard_table(card, space, reference, HEADLINE[reference]))
        for group, metrics in grouped(known).items():
            tables.append(f"<h3>{escape(group)}</h3>{scorecard_table(card, space, reference, metrics)}")
        parts.append(folded(f"{title}: all indicators", "".join(tables)))
    return "".join(parts)


#: of an attack, shown in the section on privacy
RATES = ("auc", "tpr_10", "tpr_1")


def _verdict(card: pd.DataFrame) -> str:
    """The marks of the first table as a sentence."""
    found = marks(card, "landmarks", "test")
    told = {
        label(str(metric)): [str(row) for row in found.index[found[metric].str.contains("best|shared")]]
        for metric in found
        if not str(metric).endswith("_p")
    }
    ahead = [f"{escape(name)} ({escape(', '.join(rows))})" for name, rows in told.items() if rows]
    rest = [escape(name) for name, rows in told.items() if not rows]
    sentences = []
    if ahead:
        sentences.append(f"Closer to real than both floors, beyond the noise: {'; '.join(ahead)}.")
    if rest:
        sentences.append(f"No generator is clearly closer than the floors on: {'; '.join(rest)}.")
    return " ".join(sentences)


def _spread_over(scorecard: pd.DataFrame) -> str:
    """What the scorecard's deviations are taken over, in words."""
    if (runs := int(scorecard["runs"].max())) == 1:
        return (
            "over repeated matched draws, and over classifier seeds for accuracies; the spread between trainings "
            "is not in them (<code>--params runs=3</code> shows it)."
        )
    return (
        f"between {runs} training runs of each generator, each scored on repeated matched draws; rows without a "
        "training (real, memoriser, oracle) have their deviation between draws, and between classifier seeds."
    )


def _privacy(privacy: pd.DataFrame, figures: Mapping[str, go.Figure]) -> str:
    shown = [c for c in ("generator", "run", "metric", "value", "low", "high", "null", "n", "note") if c in privacy]
    return (
        "<p><b>Passing distance tests proves nothing by itself.</b> A generator can keep every profile at a decent "
        "distance and still reveal who was in the training set. The attacks below try: each scores real donors by how "
        "much they look like training donors, within their tissue. An AUC of .5 finds nobody. An attack can only show "
        "what it finds; a null result says that this attack fails, not that there is nothing to find.</p>"
        f"<p>{_found_members(privacy)}</p>"
        "<p>Saved models tell more than their profiles: where profiles are fewer than genes, principal axes in the "
        "weights span the training profiles exactly. Do not share the weights of a cohort whose members must stay "
        "unknown.</p>"
        + _all_embedded(figures, ["privacy", "privacy_by_time"])
        + folded("All privacy indicators", plain_table(privacy[shown]))
    )


def _found_members(privacy: pd.DataFrame) -> str:
    """On which rows an attack's interval leaves .5 out, with the attack farthest off, and on which none does."""
    areas = privacy[privacy["metric"].str.endswith("_auc") & privacy["value"].notna()]
    off = areas[(areas["low"] > 0.5) | (areas["high"] < 0.5)]
    off = off.assign(by=(off["value"] - 0.5).abs()).sort_values("by", ascending=False).drop_duplicates("generator")
    words = [
        escape(f"{row.generator} (AUC {row.value:.2f}, {str(row.metric).removesuffix('_auc').replace('_', ' ')})")
        for row in off.itertuples()
    ]
    rest = [escape(str(name)) for name in areas["generator"].unique() if name not in set(off["generator"])]
    told = (
        f"Training donors are recognised, with an interval that leaves .5 out, in: {', '.join(words)}. "
        if words
        else ""
    )
    told += f"By no attack here in: {', '.join(rest)}. " if rest else ""
    return (
        told
        + "Far below .5 is a leak as well, as the attacker may turn the sign; one interval in twenty is off by chance."
    )


def guide_table() -> str:
    """The guide as a table, a group at a time."""
    rows = []
    for group, entries in GUIDE.items():
        rows.append(f'<tr class="group"><td colspan="4">{escape(group)}</td></tr>')
        rows += [
            f"<tr><td>{escape(label(name))}</td>" + "".join(f"<td>{escape(text)}</td>" for text in entry) + "</tr>"
            for name, entry in entries.items()
        ]
    head = "<th>indicator</th><th>what it is</th><th>how to read it</th><th>what it cannot tell</th>"
    return f'<table class="guide"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _all_embedded(figures: Mapping[str, go.Figure], names: Iterable[str]) -> str:
    return "".join(embedded(figures[name], name) for name in names if name in figures)
