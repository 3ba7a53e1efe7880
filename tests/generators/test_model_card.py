"""The card beside a model: a front matter that parses, the facts of the cohort, and scores where there are any."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

import transcriptome_diffusion as td
from populations import SIZES, draw
from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.cli import cli
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.model_card import CARD_FILE, rows_of, write_card, write_cards
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.runs import trainings

GENES = 20


@pytest.fixture
def models(tmp_path):
    data = {"landmarks": (*(draw(SIZES, seed)[:, :GENES].copy() for seed in (0, 1)), ClassGaussianOptions())}
    for training in trainings(ClassGaussian, data, runs=1):
        training.save(tmp_path / "class_gaussian")
    return tmp_path


@pytest.fixture
def scorecard():
    """Two metrics against held-out donors and an attack, of three rows."""
    rows = [
        (name, "landmarks", reference, metric, value + shift)
        for name, shift in (("real", 0.0), ("class_gaussian", 0.125), ("vae", 0.25))
        for reference, metric, value in (
            ("test", "precision", 0.5),
            ("train", "precision", 0.75),
            ("test", "mmd", 0.1),
            ("train", "domias_auc", 0.625),
        )
    ]
    return pd.DataFrame(rows, columns=["generator", "space", "reference", "metric", "mean"])


def front(path):
    _, matter, text = path.read_text().split("---\n", 2)
    return yaml.safe_load(matter), text


def test_every_saved_model_has_a_card_with_the_facts_of_its_cohort(models):
    facts, text = front(models / "class_gaussian" / "run_1" / CARD_FILE)
    assert facts["license"] == "other"
    ours = facts["transcriptome_diffusion"]
    assert ours["cohort"] == {
        "unit": "log2(CPM + 1)",
        "genes": GENES,
        "training_profiles": sum(SIZES.values()),
        "donors": sum(SIZES.values()) // 2,
    }
    assert ours["labels"] == {"tissue": ["brain", "liver", "skin"]}
    assert ours["settings"]["min_samples"] == 10
    assert "| brain | 120 |" in text
    assert "Weights are not anonymous" in text
    assert "Not scored" in text
    assert "model-index" not in facts


def test_scores_and_attacks_come_from_the_scorecard_beside_the_real_row(models, scorecard):
    [path] = write_cards(models, scorecard)
    facts, text = front(path)
    assert "| real | 0.500 |" in text
    assert "| class_gaussian | 0.625 |" in text
    assert "| class_gaussian | 0.750 |" in text  # the attack
    assert "vae" not in text
    assert "Not scored" not in text
    [entry] = facts["model-index"]
    assert entry["name"] == "class_gaussian"
    assert entry["results"][0]["metrics"] == [{"type": "precision", "value": 0.625}]


def test_a_card_can_be_written_from_the_command_line(models, scorecard):
    scorecard.to_csv(models / "card.csv")
    run = CliRunner().invoke(cli, ["describe", str(models / "class_gaussian"), "--scorecard", str(models / "card.csv")])
    assert run.exit_code == 0, run.output
    assert "| class_gaussian | 0.625 |" in (models / "class_gaussian" / "run_1" / CARD_FILE).read_text()
    run = CliRunner().invoke(cli, ["describe", str(models / "class_gaussian"), "--card"])
    assert run.exit_code == 0, run.output
    assert "Not scored" in (models / "class_gaussian" / "run_1" / CARD_FILE).read_text()


def test_a_card_needs_a_model_and_leaves_it_loadable(models, scorecard):
    write_cards(models, scorecard)
    assert td.load_generator(models / "class_gaussian").record["cohort"] == {"donors": sum(SIZES.values()) // 2}
    with pytest.raises(ArtefactError, match="no model at"):
        write_card(models / "nowhere")
    assert not (models / "nowhere").exists()


def test_samplers_of_one_model_are_its_rows():
    assert rows_of("diffusion") == ("ddpm", "ddim")
    assert rows_of("vae") == ("vae",)
