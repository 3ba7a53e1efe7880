import json
import re

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.reporting import training_log
from transcriptome_diffusion.reporting.figures import precision_recall_plane
from transcriptome_diffusion.reporting.maps import pca_comparison
from transcriptome_diffusion.reporting.report import build_report, scorecard_table
from transcriptome_diffusion.reporting.scorecard import collect


def indicators():
    rng = np.random.default_rng(0)
    rows = []
    for name in ("real", "memoriser", "class_gaussian", "class_kde", "ddpm"):
        for metric in ("precision", "recall", "density"):
            for reference in ("test", "train"):
                for run in range(3):
                    rows.append((name, "none", "landmarks", reference, metric, run, 0, rng.random(), 50))
    columns = ["generator", "reconstructor", "space", "reference", "metric", "run", "draw", "value", "n"]
    return pd.DataFrame(rows, columns=columns).assign(low=np.nan, high=np.nan, note="")


def privacy(**areas):
    """An attack's AUC for every row, with an interval of .1 to either side."""
    rows = [{"generator": name, "value": area, "low": area - 0.1, "high": area + 0.1} for name, area in areas.items()]
    return pd.DataFrame(rows).assign(run=1, metric="domias_gaussian_auc", null=0.5, n=50, note="")


@pytest.fixture
def parts():
    rng = np.random.default_rng(1)
    train, held_out, fake = (rng.normal(size=(n, 5)) for n in (40, 20, 30))
    scorecard = collect([indicators()])
    figures = {
        "pca_landmarks": pca_comparison(
            train, held_out, np.repeat(["a", "b"], 10), {"ddpm": (fake, np.repeat(["a", "b"], 15))}
        ),
        "precision_recall": precision_recall_plane(scorecard),
    }
    point = {"step": 1, "epoch": 1, "train_loss": 1.0, "validation_loss": 0.9, "learning_rate": 1e-3, "seconds": 1}
    records = [{"curve": [point], "steps": 1, "stopped": "exploded <here>"}]
    return {
        "scorecard": scorecard,
        "privacy": privacy(real=0.52, memoriser=0.8, denoiser=0.02),
        "cohort": pd.DataFrame({"tissue": ["<liver>"], "split": ["train"], "samples": [3], "donors": [2]}),
        "reconstruction": pd.DataFrame({"reconstructor": ["ridge"], "r2_median": [0.51]}),
        "trainings": training_log.summary("vae", records),
        "figures": figures,
        "curves": [training_log.figure("vae", training_log.curves(records))],
        "facts": {"unit": "log2(TPM + 1)"},
        "settings": {"vae": {"latent": 7}, "ddpm": {"name": "<b>"}},
    }


def test_the_report_stands_alone_and_shows_what_it_was_given(parts):
    html = build_report(**parts)
    assert not re.search(r"""<(script|link)[^>]+(src|href)=["']https?://""", html)
    assert "&lt;liver&gt;" in html
    assert "<liver>" not in html
    assert "name: &lt;b&gt;" in html
    assert "50 profiles on each side" in html
    assert "exploded &lt;here&gt;" in html
    assert "between 3 training runs" in html
    for text in ("ddpm", "Training of vae", "log2(TPM + 1)", "0.51", "latent: 7"):
        assert text in html


def test_it_opens_with_the_scorecard_and_its_contents_lead_somewhere(parts):
    body = build_report(**parts).partition("<body>")[2]
    assert body.index('<table class="card">') < body.index('class="figure"')
    anchors = re.findall(r'href="#([^"]+)"', body)
    assert {"scorecard", "maps", "privacy", "guide"} <= set(anchors)
    assert "trajectory" not in anchors  # its figure was not given
    for anchor in anchors:
        assert re.search(f"""id=["']{anchor}["']""", body), anchor


def test_every_figure_is_data_that_cannot_end_its_script(parts):
    parts["figures"]["precision_recall"].update_layout(title="</script><b>")
    body = build_report(**parts).partition("<body>")[2]
    data = re.findall(r'<script type="application/json">(.*?)</script>', body, flags=re.DOTALL)
    assert len(data) == body.count('class="figure"') == 3
    titles = [json.loads(figure)["layout"]["title"]["text"] for figure in data]
    assert "</script><b>" in titles


def test_privacy_names_who_is_recognised_on_either_side_of_chance(parts):
    body = build_report(**parts)
    sentence = re.search(r"Training donors are recognised[^<]*", body).group()
    found, _, rest = sentence.partition("By no attack here in: ")
    assert "memoriser (AUC 0.80" in found
    assert "denoiser (AUC 0.02" in found
    assert rest.startswith("real.")
    assert "proves nothing by itself" in body


def test_a_missing_number_shows_its_reason_and_no_number():
    rows = indicators()
    lost = (rows["generator"] == "ddpm") & (rows["metric"] == "recall")
    rows.loc[lost, "value"], rows.loc[lost, "note"] = np.nan, "only <12> profiles"
    html = scorecard_table(collect([rows]), "landmarks", "test")
    assert '<td class="missing" title="only &lt;12&gt; profiles">–</td>' in html
    assert "nan" not in html


def test_rows_say_what_they_are_for_and_cells_what_they_rest_on():
    table = collect([indicators()]).assign(low=0.1, high=0.9)
    html = scorecard_table(table, "landmarks", "test")
    for style, word in {"real": "ceiling", "warning": "warning", "floor": "floor"}.items():
        assert re.search(f'<tr class="{style}"><td>[a-z_]+<span class="tag"[^>]*>{word}</span>', html)
    assert 'title="n = 50, 3 trainings, 95 % interval 0.100 to 0.900"' in html
    assert re.search(r'<th title="Share of synthetic profiles inside[^"]+">precision</th>', html)
