"""What a run does at its start and says at its end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl

from transcriptome_diffusion.artefacts import remove_leftovers

logger = logging.getLogger(__name__)


class RunHooks:
    """Kedro's hooks of this project; they change nothing that a run makes, but for the models' cards."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Remove what killed runs left half-written where this one writes."""
        for left in remove_leftovers(output_folders(pipeline, catalog)):
            logger.info("removed %s, which a killed process left half-written", left)

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Write scores into the models' cards; end with the scorecard of the landmarks and where the report is."""
        made = pipeline.all_outputs()
        if "scorecard" in made:
            from transcriptome_diffusion.generators.model_card import write_cards
            from transcriptome_diffusion.reporting.scorecard import as_text

            card = catalog.load("scorecard")
            write_cards(Path(catalog.get("generation.models")._filepath), card)
            click.echo("\n" + as_text(card, "landmarks"))
        if "report" in made:
            click.echo(f"\nReport: {catalog.get('report')._filepath}")


def output_folders(pipeline: Any, catalog: Any) -> list[Path]:
    """The local folders that the outputs of a pipeline lie in, without those that lie within others."""
    found = set()
    for name in pipeline.all_outputs():
        dataset = catalog.get(name) if name in catalog else None
        path = getattr(dataset, "_filepath", None) or getattr(dataset, "_path", None)
        remote = getattr(dataset, "_protocol", "file") != "file" or getattr(dataset, "_storage", None) is not None
        if path is not None and not remote:
            found.add(Path(str(path).partition("*")[0]).parent)
    return sorted(path for path in found if path.is_dir() and not found & set(path.parents))
