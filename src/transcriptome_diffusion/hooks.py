"""What a run does at its start and says at its end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Node

from transcriptome_diffusion.artefacts import remove_leftovers
from transcriptome_diffusion.pipelines import cost

logger = logging.getLogger(__name__)

#: under this name the catalog keeps the nodes whose cost waits for the sizes of the cohort
WAITING = "nodes_of_unknown_cost"


class RunHooks:
    """Kedro's hooks of this project; they change nothing that a run makes, but for the models' cards."""

    @hook_impl
    def before_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Remove what killed runs left half-written where this one writes; say what large networks will take."""
        for left in remove_leftovers(output_folders(pipeline, catalog)):
            logger.info("removed %s, which a killed process left half-written", left)
        nodes = cost.counted(pipeline.nodes)
        if not nodes or not (found := run_cost(nodes, catalog)).options:
            return
        if (sizes := cost.sizes_at_start(pipeline.all_outputs(), catalog.load, catalog.exists)) is not None:
            found.announce(sizes)
        else:
            catalog[WAITING] = nodes  # for ``after_node_run``, in whichever process that node runs

    @hook_impl
    def after_node_run(self, catalog: Any, outputs: Any) -> None:
        """Say what large networks will take as soon as the sizes of the cohort are known, if they were not before."""
        if WAITING in catalog and (sizes := cost.sizes_after(outputs)) is not None:
            run_cost(catalog.load(WAITING), catalog).announce(sizes)

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


def run_cost(nodes: Sequence[Node], catalog: Any) -> cost.RunCost:
    """The cost of nodes with the parameters of the catalog, less the trainings in its folders."""

    def finished(dataset: str, space: str) -> int:
        from transcriptome_diffusion.generators.runs import space_folder

        return len(list(space_folder(Path(catalog.get(dataset)._filepath), space).glob("run_[1-9]*")))

    return cost.RunCost(nodes, catalog.load, finished)


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
