"""The pipelines by name, listed explicitly: composites must not depend on what Kedro happens to import."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from transcriptome_diffusion.pipelines import (
    augmentation,
    baselines,
    diffusion_training,
    download,
    evaluation,
    feature_landmarks,
    generation,
    ingestion,
    paper_protocol,
    privacy,
    reconstruction,
    study,
    tuning,
)

STAGES = (ingestion, feature_landmarks, baselines, diffusion_training, reconstruction, evaluation)
EXTRAS = (tuning, augmentation, download, generation, paper_protocol, privacy)


def register_pipelines() -> dict[str, Pipeline]:
    """Every stage under its own name, all as the default; beside them what is run on its own."""
    stages = {stage.__name__.rpartition(".")[2]: stage.create_pipeline() for stage in STAGES}
    extras = {extra.__name__.rpartition(".")[2]: extra.create_pipeline() for extra in EXTRAS}
    whole = sum(stages.values(), Pipeline([]))
    return {**stages, **extras, "study": study.create_pipeline(whole), "__default__": whole}
