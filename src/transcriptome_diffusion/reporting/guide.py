"""The guide to the scorecard, as the report shows it: ``metrics.registry`` by group and topic."""

from __future__ import annotations

from transcriptome_diffusion.metrics.registry import METRICS, Entry

#: lines of the guide by group and topic, in the order of the report
GUIDE: dict[str, dict[str, Entry]] = {}
for _metric in METRICS.values():
    GUIDE.setdefault(_metric.group, {}).setdefault(_metric.topic, _metric.entry)
#: of metrics that are not registered
OTHER = "Other"


def label(metric: str) -> str:
    """Name of a metric, or of a topic of the guide, for readers: ``balanced accuracy, MLP``."""
    return METRICS[metric].label if metric in METRICS else metric.replace("_", " ")


def explain(metric: str) -> tuple[str, Entry] | None:
    """The group of a metric and its lines; None if it is not registered."""
    return (METRICS[metric].group, METRICS[metric].entry) if metric in METRICS else None


def grouped(metrics: list[str]) -> dict[str, list[str]]:
    """Metrics by group, in the order of the registry; those that it does not have come last, as ``OTHER``."""
    groups: dict[str, list[str]] = {}
    for metric in (*(name for name in METRICS if name in metrics), *(name for name in metrics if name not in METRICS)):
        groups.setdefault(METRICS[metric].group if metric in METRICS else OTHER, []).append(metric)
    return groups
