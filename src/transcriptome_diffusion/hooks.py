"""What a run says at its end."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.hooks import hook_impl


class RunHooks:
    """Kedro's hooks of this project; they change nothing that a run makes."""

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """End with the scorecard of the landmarks, as wide as the terminal, and with where the report is."""
        made = pipeline.all_outputs()
        if "scorecard" in made:
            from transcriptome_diffusion.reporting.scorecard import as_text

            click.echo("\n" + as_text(catalog.load("scorecard"), "landmarks"))
        if "report" in made:
            click.echo(f"\nReport: {catalog.get('report')._filepath}")
