"""Figures of tables."""

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.reporting.figures import (
    accuracies,
    attack_by_time,
    attack_intervals,
    module_bars,
    precision_recall_plane,
    tissue_maps,
)
from transcriptome_diffusion.reporting.style import row_colours


def card(**metrics):
    rows = [
        {"generator": name, "metric": metric, "mean": mean, "sd": 0.01}
        for metric, values in metrics.items()
        for name, mean in values.items()
    ]
    return pd.DataFrame(rows).assign(space="landmarks", reference="test", reconstructor="none")


def test_the_plane_has_recall_across_and_precision_up_with_real_as_a_star():
    figure = precision_recall_plane(card(precision={"real": 0.9, "ddpm": 0.8}, recall={"real": 0.7, "ddpm": 0.6}))
    real, ddpm = figure.data
    assert (real.x[0], real.y[0], real.marker.symbol) == (0.7, 0.9, "star")
    assert (ddpm.x[0], ddpm.y[0], ddpm.error_x.array[0]) == (0.6, 0.8, 0.01)


def test_boxes_hold_every_classifier_of_either_training_set_and_the_line_is_real():
    values = {"accuracy_mlp": {"real": [0.9, 0.92, 0.97], "ddpm": [0.8, 0.7, np.nan]}}
    values["accuracy_mlp_augmented"] = {"ddpm": [0.95, 0.96, 0.99]}
    rows = [
        {"generator": name, "metric": metric, "draw": draw, "value": value}
        for metric, by in values.items()
        for name, found in by.items()
        for draw, value in enumerate(found)
    ]
    table = pd.DataFrame(rows).assign(space="landmarks", reference="test", reconstructor="none", run=1, n=50)
    figure = accuracies(table)
    alone, both = figure.data
    assert list(zip(alone.x, alone.y, strict=True)) == [
        ("real", 0.9), ("real", 0.92), ("real", 0.97), ("ddpm", 0.8), ("ddpm", 0.7)
    ]  # fmt: skip
    assert list(both.y) == [0.95, 0.96, 0.99]
    assert figure.layout.shapes[0].y0 == 0.92


def test_a_tissue_without_a_number_is_empty_and_says_why():
    table = pd.DataFrame(
        {
            "generator": ["real", "real", "ddpm", "ddpm"], "reconstructor": "none", "space": "landmarks",
            "metric": ["precision", "accuracy_mlp"] * 2, "label": ["liver", "lung"] * 2,
            "value": [np.nan, 0.9, 0.5, 0.7],
            "low": [np.nan, 0.8, 0.4, 0.6], "high": [np.nan, 0.95, 0.6, 0.8], "n": 12,
            "note": ["12 profiles", "", None, ""],
        }
    )  # fmt: skip
    figure = tissue_maps(table)
    heats = dict(zip((button.label for button in figure.layout.updatemenus[0].buttons), figure.data, strict=True))
    precision, accuracy = heats["precision"], heats["accuracy, MLP"]
    assert (precision.visible, accuracy.visible) == (False, True)
    assert [list(row) for row in precision.z] == [[None, None], [0.5, None]]
    assert precision.customdata[0][0] == "no number: 12 profiles"
    assert precision.customdata[1][0] == "0.500, 95 % 0.400 to 0.600, 12 held-out profiles"
    assert precision.customdata[0][1] == "not computed"
    chosen = figure.layout.updatemenus[0].buttons[0].args[0]["visible"]
    assert chosen == [True, False]


def test_modules_are_measured_against_the_level_of_real_donors():
    figure = module_bars(
        card(module_density={"real": 0.97, "ddpm": 0.9}, module_correlation={"real": 0.8, "ddpm": 0.7})
    )
    assert [note.text for note in figure.layout.annotations[:2]] == ["module density", "module correlation"]
    assert [line.y0 for line in figure.layout.shapes] == [0.97, 0.8]
    assert list(figure.data[0].y) == [0.97, 0.9]


def test_attacks_show_their_own_asymmetric_intervals_and_the_value_of_nobody_recognised():
    table = pd.DataFrame(
        {
            "generator": ["real", "ddpm", "ddpm", "ddpm", "vae"], "space": "landmarks", "reference": "train",
            "metric": ["gan_leaks_auc", "gan_leaks_auc", "loss_attack_auc", "dcr_ratio", "gan_leaks_auc"],
            "mean": [0.5, 0.7, 0.1, 0.9, np.nan], "low": [0.4, 0.65, 0.05, 0.8, np.nan],
            "high": [0.6, 0.8, 0.3, 1.0, np.nan],
        }
    )  # fmt: skip
    figure = attack_intervals(table)
    leaks, loss = figure.data
    assert [note.text for note in figure.layout.annotations] == ["gan leaks", "loss attack"]
    assert list(leaks.y) == ["real", "ddpm"]
    assert list(leaks.error_x.array) == pytest.approx([0.1, 0.1])
    assert list(leaks.error_x.arrayminus) == pytest.approx([0.1, 0.05])
    assert list(loss.x) == [0.1]
    assert {line.x0 for line in figure.layout.shapes} == {0.5}


def test_the_attack_over_time_is_a_line_within_its_band():
    low, high, line = attack_by_time(pd.concat([at_times(), at_times(metric="precision", label="lung")])).data
    assert list(line.x) == [0.1, 0.5]
    assert list(line.y) == [0.6, 0.8]
    assert list(low.y) == [0.5, 0.7]
    assert list(high.y) == [0.7, 0.9]
    assert line.name == "ddim, loss attack"


def at_times(**changed):
    table = pd.DataFrame(
        {
            "generator": "ddim", "reconstructor": "none", "space": "landmarks", "metric": "loss_attack_auc",
            "label": ["t=0.5", "t=0.1"], "value": [0.8, 0.6], "n": 30, "note": "",
        }
    )  # fmt: skip
    return table.assign(low=lambda t: t["value"] - 0.1, high=lambda t: t["value"] + 0.1, **changed)


def test_single_times_are_no_tissues():
    figure = tissue_maps(pd.concat([at_times(metric="precision", label=["liver", "lung"]), at_times()]))
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["precision"]
    assert list(figure.data[0].x) == ["liver", "lung"]


def test_rows_keep_their_colours_and_unknown_rows_get_their_own():
    colours = row_colours(["ddpm", "mine", "real", "yours", "mine"])
    assert colours["ddpm"] == row_colours(["ddpm"])["ddpm"]
    assert len(set(colours.values())) == 4
