"""The report: one HTML file that opens without a network, beginning with the scorecard."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import yaml

from transcriptome_diffusion.metrics import registry
from transcriptome_diffusion.reporting import training_log
from transcriptome_diffusion.reporting.figures import FROM_TABLES
from transcriptome_diffusion.reporting.guide import explain, grouped, label
from transcriptome_diffusion.reporting.page import plain_table, render
from transcriptome_diffusion.reporting.scorecard import ROLES, cells, marks, power_row, role, wide

COMPARED = {
    ("landmarks", "test"): "{panel} against held-out donors",
    ("landmarks", "train"): "{panel} against training donors, the paper's protocol, which favours copies",
    ("transcriptome", "test"): "All genes against held-out donors",
    ("transcriptome", "train"): "All genes against training donors, which favours copies",
}
#: sections of the page that need a table
SECTIONS = {"reconstruction": "reconstruction_quality", "training": "training_summary"}
#: columns of the scorecard that hovering shows
DETAILS = ("n", "runs", "low", "high", "smallest_difference", "note")
#: of every attack: its metrics stand in the section on privacy
AREAS = [f"{attack}_auc" for attack in registry.ATTACKS]
RATES = [f"{attack}_{rate}" for attack in registry.ATTACKS for rate in registry.RATES if rate != "auc"]
#: beginnings of the other metrics there
DISTANCES = ("dcr", "nndr", "closer_to_train", "privacy_loss")


def build_report(
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, go.Figure],
    facts: Mapping[str, object],
    settings: Mapping[str, Any],
    panel: str = "Landmark genes",
) -> str:
    """The whole report as HTML text.

    Args:
        tables: ``scorecard``; ``cohort_summary``, samples and donors per tissue and split; ``reconstruction_quality``,
            from real held-out landmarks; ``training_summary`` and ``training_curves`` of all trainings, as
            ``reporting.training_log`` makes them; ``by_tissue``, and optionally ``draws``, of ``scorecard.collect``.
        figures: by the names that ``report.html`` gives them; those that are missing are left out, or made from
            the tables where ``FROM_TABLES`` can.
        facts: what the run was about, shown at the top.
        settings: parameters of the run, by block.
        panel: what the space ``landmarks`` is.
    """
    card, curves = tables["scorecard"], tables["training_curves"]
    made = {
        name: draw(tables[table])
        for name, (table, draw) in FROM_TABLES.items()
        if name not in figures and len(tables.get(table, ()))
    }
    closer, not_closer = _verdict(card)
    recognised, not_recognised = _recognised(card)
    return render(
        "report.html",
        title="Synthetic expression profiles",
        facts=facts,
        figures={name: figure for name, figure in {**made, **figures}.items() if figure.data},
        closer=closer,
        not_closer=not_closer,
        runs=int(card["runs"].max()),
        blocks=_blocks(card, panel),
        absent=[name for name, table in SECTIONS.items() if tables[table].empty],
        recognised=recognised,
        not_recognised=not_recognised,
        privacy=_privacy(card),
        reconstruction=plain_table(tables["reconstruction_quality"]),
        trainings=plain_table(tables["training_summary"]),
        curves={
            str(name): training_log.figure(str(name), part) for name, part in curves.groupby("generator", sort=False)
        },
        cohort=plain_table(tables["cohort_summary"]),
        # block by block, so that what two blocks share is written out in both
        settings="".join(yaml.safe_dump({name: settings[name]}, sort_keys=False) for name in sorted(settings)),
        guide=_guide(card),
    )


def score_table(
    scorecard: pd.DataFrame, space: str, reference: str, metrics: Iterable[str] | None = None
) -> dict[str, list[Any]]:
    """One space and reference as heads and rows for the template: roles named, the closest to ``real`` marked.

    ``power`` is the last line, ``scorecard.power_row``.
    """
    metrics = None if metrics is None else [*metrics]
    texts = cells(scorecard, space, reference, metrics)
    found = marks(scorecard, space, reference, metrics)
    details = {what: wide(scorecard, space, reference, what, metrics) for what in DETAILS}
    rows = [
        {
            "name": row,
            "role": role(row),
            "hint": ROLES.get(role(row), ""),
            "cells": [
                _cell(
                    str(texts.at[row, m]),
                    str(found.at[row, m]),
                    {what: block.at[row, m] for what, block in details.items()},
                )
                for m in texts
            ],
        }
        for row in map(str, texts.index)
    ]
    power = power_row(scorecard, space, reference, metrics)
    return {
        "heads": [{"text": label(m), "hint": _hint(m)} for m in map(str, texts)],
        "rows": rows,
        "power": [power[m] for m in map(str, texts)] if power else [],
    }


def _cell(text: str, mark: str, details: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in details.items() if not pd.isna(value) and value != ""}
    mean, _, spread = text.partition(" ")
    if mean == "–":
        hint = known.get("note", "not computed for this row")
        return {"mean": mean, "spread": "", "style": "missing", "near": False, "hint": hint}
    basis = [f"n = {int(known['n'])}"] if "n" in known else []
    if known.get("runs", 1) > 1:
        basis.append(f"{int(known['runs'])} trainings")
    if "low" in known and "high" in known:
        basis.append(f"95 % interval {known['low']:.3f} to {known['high']:.3f}")
    if "smallest_difference" in known:
        basis.append(f"smallest difference from real that shows: {known['smallest_difference']:.3g}")
    style = mark.removesuffix("real").strip()
    return {"mean": mean, "spread": spread, "style": style, "near": "real" in mark.split(), "hint": ", ".join(basis)}


def _hint(metric: str) -> str:
    if found := explain(metric):
        return f"{found[1].what} {found[1].values}"
    return metric.replace("_", " ")


def _verdict(card: pd.DataFrame) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """What the marks of the first table say: indicators with the generators ahead of the floors, and those without."""
    found = marks(card, "landmarks", "test")
    ahead = {
        label(str(metric)): [str(row) for row in found.index[found[metric].str.contains("best|shared")]]
        for metric in found
        if not str(metric).endswith("_p")
    }
    closer = [(metric, rows) for metric, rows in ahead.items() if rows]
    return closer, [metric for metric, rows in ahead.items() if not rows]


def _blocks(card: pd.DataFrame, panel: str) -> list[dict[str, Any]]:
    """Every space and reference: its size, the table that a reader sees first, and all its indicators by group."""
    blocks = []
    for (space, reference), title in COMPARED.items():
        part = card[(card["space"] == space) & (card["reference"] == reference)]
        if part.empty:
            continue
        metrics = [m for m in map(str, part["metric"].unique()) if m not in (*AREAS, *RATES)]
        blocks.append(
            {
                "name": f"{space} {reference}",
                "title": title.format(panel=panel),
                "n": int(part["n"].min()),
                "headline": score_table(card, space, reference),
                "tables": [
                    (group, score_table(card, space, reference, own)) for group, own in grouped(metrics).items()
                ],
            }
        )
    return blocks


def _privacy(card: pd.DataFrame) -> list[tuple[str, dict[str, list[Any]]]]:
    """Titled tables of the privacy indicators that the scorecard has."""
    part = card[(card["space"] == "landmarks") & (card["reference"] == "train")]
    metrics = [str(metric) for metric in part["metric"].unique()]
    titled = {
        "Membership attacks: AUC": [m for m in metrics if m in AREAS],
        "Membership attacks: share of members found at 10 % and 1 % false alarms": [m for m in metrics if m in RATES],
        "Distances to training and held-out donors": [m for m in metrics if m.startswith(DISTANCES)],
    }
    return [(title, score_table(part, "landmarks", "train", own)) for title, own in titled.items() if own]


def _recognised(card: pd.DataFrame) -> tuple[list[dict[Hashable, Any]], list[str]]:
    """Rows where an attack's interval excludes .5, with the attack farthest from it; and rows where none does."""
    areas = card[card["metric"].isin(AREAS) & (card["reference"] == "train") & card["mean"].notna()]
    areas = areas[areas["generator"] != "expected"]
    off = areas[(areas["low"] > 0.5) | (areas["high"] < 0.5)]
    off = off.assign(by=(off["mean"] - 0.5).abs()).sort_values("by", ascending=False).drop_duplicates("generator")
    off = off.assign(attack=off["metric"].str.removesuffix("_auc").str.replace("_", " "))
    found = off[["generator", "mean", "attack"]].to_dict("records")
    return found, [str(name) for name in areas["generator"].unique() if name not in set(off["generator"])]


def _guide(card: pd.DataFrame) -> list[tuple[str, list[tuple[list[str], tuple[str, ...]]]]]:
    """What every indicator of the scorecard is, by group; indicators with the same text share an entry."""
    groups = []
    for group, metrics in grouped([str(metric) for metric in card["metric"].unique()]).items():
        entries: dict[tuple[str, ...], list[str]] = {}
        for metric in metrics:
            if found := explain(metric):
                entries.setdefault(tuple(found[1]), []).append(label(metric))
        groups.append((group, [(names, texts) for texts, names in entries.items()]))
    return [(group, entries) for group, entries in groups if entries]
