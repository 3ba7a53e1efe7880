"""What a run says at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl


class RunHooks:
    """Kedro's hooks of this project; they change nothing that a run makes, but for the models' cards."""

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
