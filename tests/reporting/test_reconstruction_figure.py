import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.reporting.figures import reconstruction_by_gene


def table(r2):
    genes = len(r2)
    return pd.DataFrame(
        {"symbol": [f"S{i}" for i in range(genes)], "r2": r2, "sd": np.linspace(0, 3, genes), "mean": 5.0},
        index=[str(i) for i in range(genes)],
    )


def test_the_curve_is_the_share_of_genes_that_reach_an_r2():
    r2 = np.random.default_rng(0).uniform(0, 1, 5000)
    figure = reconstruction_by_gene({"linear": table(r2)})
    curve = figure.data[0]
    assert curve.name == f"linear, median {np.median(r2):.2f}"
    for x, y in zip(curve.x[::50], curve.y[::50], strict=True):
        assert y == pytest.approx((r2 >= x).mean(), abs=0.002)


def test_every_gene_of_the_best_is_a_point_with_its_symbol_and_the_worst_stay_in_view():
    linear, mlp = table([0.9, 0.8, np.nan, -40.0]), table([0.5, 0.4, np.nan, 0.3])
    figure = reconstruction_by_gene({"mlp": mlp, "linear": linear})
    curves, points = figure.data[:2], figure.data[2]
    assert [curve.name for curve in curves] == ["mlp, median 0.40", "linear, median 0.80"]
    assert points.name == "linear"
    assert list(points.text) == ["S0", "S1", "S3"]  # a gene without R² is left out
    assert list(points.y) == [0.9, 0.8, -0.5]
    assert points.marker.color == curves[1].line.color
