"""One denoiser, and one set of profiles per sampler of it."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import DENOISER, SAMPLERS
from transcriptome_diffusion.pipelines import training

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """``--from-nodes diffusion_training.draw_ddpm,diffusion_training.draw_ddim`` samples again without training."""
    draws = [
        Node(
            nodes.draw_profiles,
            ["denoiser", "landmarks_train", f"params:{sampler}", "params:sampling"],
            f"profiles_{sampler}",
            name=f"draw_{sampler}",
        )
        for sampler in SAMPLERS
    ]
    return Pipeline(
        [
            training.fit_node(DENOISER, "denoiser", "denoiser", "train_denoiser"),
            training.log_node("denoiser", "denoiser"),
            *draws,
        ],
        namespace="diffusion_training",
        prefix_datasets_with_namespace=False,
    )
