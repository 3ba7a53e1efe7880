"""What a run says: whole lines in a log file, and the scorecard at the end."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.logging import RichHandler

logger = logging.getLogger(__name__)

PLAIN = "%(asctime)s %(levelname)-8s %(message)s"


class RunHooks:
    """Kedro's hooks of this project; they change nothing that a run makes."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Outside a terminal, write plain lines: the handler for terminals breaks names at 80 columns there."""
        if sys.stdout.isatty():
            return
        root = logging.getLogger()
        for handler in [handler for handler in root.handlers if isinstance(handler, RichHandler)]:
            plain = logging.StreamHandler(sys.stdout)
            plain.setLevel(handler.level)
            plain.setFormatter(logging.Formatter(PLAIN, datefmt="%H:%M:%S"))
            root.removeHandler(handler)
            root.addHandler(plain)

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """End with the scorecard of the landmarks, as wide as the terminal, and with where the report is."""
        made = pipeline.all_outputs()
        if "scorecard" in made:
            from transcriptome_diffusion.reporting.scorecard import as_text

            click.echo("\n" + as_text(catalog.load("scorecard"), "landmarks"))
        if "report" in made:
            click.echo(f"\nReport: {catalog.get('report')._filepath}")
