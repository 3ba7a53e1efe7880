"""One template, a namespace per generator: fit on train, then one profile per training sample."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import BASELINES, DENOISER, DIRECT, Entry, is_trained
from transcriptome_diffusion.pipelines import training


def create_pipeline(**_: Any) -> Pipeline:
    """Every generator of the registry's ``BASELINES``; those of ``DIRECT`` once more, on all genes at once."""
    stages = [stage(name, entry, f"profiles_{name}") for name, entry in BASELINES.items()]
    stages += [
        stage(f"direct_{name}", entry, f"transcriptomes_{name}_by_direct", genes="expression")
        for name, entry in DIRECT.items()
        if entry is not DENOISER
    ]
    return sum(stages, Pipeline([]))


def stage(name: str, entry: Entry, profiles: str, genes: str = "landmarks") -> Pipeline:
    """Fit, draw and, for what is trained, the curve of one generator, under the parameters ``name``."""
    models = f"generator_{name}"
    draw = Node(training.draw_profiles, [models, f"{genes}_train", "params:sampling"], profiles, name="draw")
    nodes = [training.fit_node(entry, name, models, "fit", genes), draw]
    if is_trained(entry):
        nodes.append(training.log_node(name, models))
    return Pipeline(nodes, namespace=f"baselines.{name}", prefix_datasets_with_namespace=False)
