"""The pipeline of the paper's protocol: what it reads, and the published values beside its own."""

from __future__ import annotations

import pandas as pd
import pytest
from kedro.framework.project import pipelines as registered
from kedro.framework.startup import bootstrap_project

from transcriptome_diffusion.experiments.options import StudyOptions
from transcriptome_diffusion.experiments.paper_protocol import COLUMNS
from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines.paper_protocol.nodes import collect


def table(generator: str) -> pd.DataFrame:
    metrics = {"precision": "train", "correlation": "train", "density": "train", "accuracy": "test"}
    rows = [(generator, "landmarks", where, "paper", metric, 0.5, 0.1, 5, 100) for metric, where in metrics.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.mark.parametrize(
    ("cohort", "generator", "expected"),
    [
        ("gtex", "vae", {"precision": 0.9944, "correlation": 0.9814, "accuracy": 0.9898}),
        ("gtex", "ddim", {"precision": 0.9888, "correlation": 0.9893, "accuracy": 0.9924}),
        ("tcga", "wgan_gp", {"precision": 0.9528, "correlation": 0.9845, "accuracy": 0.9222}),
    ],
)
def test_published_values_stand_beside_ours(cohort: str, generator: str, expected: dict[str, float]) -> None:
    found = collect(StudyOptions.model_validate({"published": cohort}), table(generator), table("class_kde"))
    assert len(found) == 8
    ours = found[found["generator"] == generator].set_index("metric")["published"]
    assert ours.dropna().to_dict() == pytest.approx(expected)
    assert found.loc[found["generator"] == "class_kde", "published"].isna().all()


def test_another_cohort_has_no_published_values() -> None:
    found = collect(StudyOptions(), table("vae"), table("ddim"))
    assert list(found.columns) == COLUMNS
    assert list(found["generator"].unique()) == ["vae", "ddim"]


def test_it_reads_trainings_and_real_landmarks_and_makes_tables_alone(project) -> None:
    bootstrap_project(project)
    pipeline = dict(registered)["paper_protocol"]
    read = {name for name in pipeline.inputs() if not name.startswith("params:")}
    landmarks = {f"landmarks_{split}" for split in ("train", "validation", "test")}
    trained = {node.inputs[0] for node in pipeline.nodes} - {"params:study"}
    assert {name.rpartition(".")[2] for name in trained} == {f"models_{model_name(name)}" for name in GENERATORS}
    assert read == landmarks | trained
    assert pipeline.outputs() == {"paper_protocol"}
