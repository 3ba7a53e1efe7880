"""Synthetic bulk RNA-seq profiles from diffusion models, measured against held-out donors.

The public functions are imported when they are first used, so that importing the package takes milliseconds.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from transcriptome_diffusion.api import Splits, compare, fit, prepare, score, split
    from transcriptome_diffusion.cohorts.readers import read_cohort
    from transcriptome_diffusion.experiments.release import privacy_report
    from transcriptome_diffusion.generation import label_table, load_generator

__all__ = [
    "Splits",
    "__version__",
    "compare",
    "fit",
    "label_table",
    "load_generator",
    "prepare",
    "privacy_report",
    "read_cohort",
    "score",
    "split",
]

_PUBLIC = {
    **dict.fromkeys(("Splits", "compare", "fit", "prepare", "score", "split"), "api"),
    "label_table": "generation",
    "load_generator": "generation",
    "privacy_report": "experiments.release",
    "read_cohort": "cohorts.readers",
}

# Kedro 1.7 on omegaconf 2.4 repeats this on every command; the call is Kedro's, not ours.
warnings.filterwarnings("ignore", message=r"\s*register_new_resolver\(\) is deprecated")


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
