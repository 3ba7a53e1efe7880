"""One denoiser, and one set of profiles per sampler of it."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import DENOISER, DIRECT, SAMPLERS
from transcriptome_diffusion.pipelines import training

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """``--from-nodes diffusion_training.draw_ddpm,diffusion_training.draw_ddim`` samples again without training.

    A second denoiser learns all genes at once; its samples need no reconstruction.
    """
    on_landmarks = [
        training.fit_node(DENOISER, "denoiser", "denoiser", "train_denoiser"),
        training.log_node("denoiser", "denoiser", "log_training"),
        *(draw(sampler, "denoiser", "landmarks_train", f"profiles_{sampler}") for sampler in SAMPLERS),
    ]
    direct = [
        training.fit_node(DENOISER, "direct_denoiser", "direct_denoiser", "train_direct_denoiser", "expression"),
        training.log_node("direct_denoiser", "direct_denoiser", "log_direct_training"),
        *(
            draw(sampler, "direct_denoiser", "expression_train", f"transcriptomes_{sampler}_by_direct", "direct_")
            for sampler in SAMPLERS
            if sampler in DIRECT
        ),
    ]
    return Pipeline([*on_landmarks, *direct], namespace="diffusion_training", prefix_datasets_with_namespace=False)


def draw(sampler: str, denoiser: str, train: str, profiles: str, kind: str = "") -> Node:
    """One synthetic profile per training profile."""
    inputs = [denoiser, train, f"params:{sampler}", "params:sampling"]
    return Node(nodes.draw_profiles, inputs, profiles, name=f"draw_{kind}{sampler}")
