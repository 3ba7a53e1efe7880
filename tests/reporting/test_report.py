import json
import re

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.reporting import training_log
from transcriptome_diffusion.reporting.figures import tissue_maps
from transcriptome_diffusion.reporting.maps import pca_comparison
from transcriptome_diffusion.reporting.page import number, plain_table
from transcriptome_diffusion.reporting.report import build_report
from transcriptome_diffusion.reporting.scorecard import collect, summarise

HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = ("real", "memoriser", "class_gaussian", "class_kde", "ddpm")


def indicators():
    rng = np.random.default_rng(0)
    rows = [
        (name, "none", "landmarks", reference, metric, run, 0, rng.random(), 50)
        for name in NAMES
        for metric in ("precision", "recall", "density")
        for reference in ("test", "train")
        for run in range(1, 4)
    ]
    columns = ["generator", "reconstructor", "space", "reference", "metric", "run", "draw", "value", "n"]
    return pd.DataFrame(rows, columns=columns).assign(label="", low=np.nan, high=np.nan, note="")


def privacy(**areas):
    """An attack's AUC for every row, with an interval of .1 to either side."""
    rows = [{"generator": name, "value": area, "low": area - 0.1, "high": area + 0.1} for name, area in areas.items()]
    table = pd.DataFrame(rows).assign(metric="domias_gaussian_auc", n=50, note="", label="", draw=0, run=1)
    return table.assign(reconstructor="none", space="landmarks", reference="train")


def by_tissue():
    tissues = indicators().query("metric == 'recall' and reference == 'test'").assign(label=HOSTILE)
    times = privacy(ddpm=0.9).assign(metric="loss_attack_auc", label="t=0.04")
    return pd.concat([tissues, times], ignore_index=True)


def report_parts():
    """What ``build_report`` takes, with a tissue whose name is markup."""
    rng = np.random.default_rng(1)
    train, held_out, fake = (rng.normal(size=(n, 5)) for n in (40, 20, 30))
    draws, tissues = collect([indicators(), privacy(real=0.52, memoriser=0.8, ddpm=0.02), by_tissue()])
    scorecard = summarise(draws)
    labels = np.repeat(np.array(["a", HOSTILE]), 15)
    point = {"step": 1, "epoch": 1, "train_loss": 1.0, "validation_loss": 0.9, "learning_rate": 1e-3, "seconds": 1}
    records = [{"curve": [point], "steps": 1, "stopped": "exploded <here>"}]
    tables = {
        "scorecard": scorecard,
        "draws": draws,
        "by_tissue": tissues,
        "cohort_summary": pd.DataFrame({"tissue": [HOSTILE], "split": ["train"], "samples": [3], "donors": [2]}),
        "reconstruction_quality": pd.DataFrame({"reconstructor": ["ridge"], "r2_median": [0.51]}),
        "training_summary": training_log.summary("vae", records),
        "training_curves": pd.concat([training_log.curves(name, records) for name in ("vae", "denoiser")]),
    }
    return {
        "tables": tables,
        "figures": {"pca_landmarks": pca_comparison(train, held_out, labels[:20], {"ddpm": (fake, labels)})},
        "facts": {"unit": "log2(TPM + 1)", "tissue": HOSTILE},
        "settings": {"vae": {"latent": 7}, "ddpm": {"name": "<b>"}},
    }


@pytest.fixture
def parts():
    return report_parts()


@pytest.fixture(scope="module")
def html():
    """The report of ``parts`` as they are."""
    return build_report(**report_parts())


@pytest.fixture(scope="module")
def body(html):
    return html.partition("<body>")[2]


def body_of(parts):
    return build_report(**parts).partition("<body>")[2]


def drawn(body):
    """Every figure by its name."""
    names = re.findall(r'class="figure" id="figure-([^"]+)"', body)
    data = re.findall(r'<script type="application/json">(.*?)</script>', body, flags=re.DOTALL)
    return dict(zip(names, map(json.loads, data), strict=True))


def test_the_report_stands_alone_and_shows_what_it_was_given(html):
    assert not re.search(r"""<(script|link)[^>]+(src|href)=["']https?://""", html)
    assert "name: &lt;b&gt;" in html
    assert "50 profiles on each side" in html
    assert "exploded &lt;here&gt;" in html
    assert "between 3 training runs" in html
    for text in ("ddpm", "Training of vae", "Training of denoiser", "log2(TPM + 1)", "0.51", "latent: 7"):
        assert text in html


def test_what_a_user_named_is_text_in_every_table_and_figure(html, body):
    assert "<img" not in body
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") == 2  # the facts, the cohort
    figures = drawn(body)
    assert HOSTILE in {trace["name"] for trace in figures["pca_landmarks"]["data"]}
    assert figures["by_tissue"]["data"][0]["x"] == [HOSTILE]


def test_it_opens_with_the_scorecard_and_its_contents_lead_somewhere(body):
    assert body.index('<table class="card">') < body.index('class="figure"')
    anchors = re.findall(r'href="#([^"]+)"', body)
    assert {"scorecard", "maps", "privacy", "training", "guide"} <= set(anchors)
    assert "trajectory" not in anchors  # its figure was not given
    for anchor in anchors:
        assert re.search(f"""id=["']{anchor}["']""", body), anchor


@pytest.mark.parametrize("title", ["</script><b>", "<!--<script>"])
def test_no_text_in_a_figure_can_end_its_script(parts, title):
    parts["figures"]["pca_landmarks"].update_layout(title=title)
    body = body_of(parts)
    assert drawn(body)["pca_landmarks"]["layout"]["title"]["text"] == title
    assert "<!--" not in body


def test_figures_that_need_no_profiles_are_made_from_the_tables_unless_given(parts):
    given = tissue_maps(parts["tables"]["by_tissue"]).update_layout(title="given")
    figures = drawn(body_of(parts | {"figures": {"by_tissue": given}}))
    made = {"precision_recall", "privacy", "privacy_by_time", "training", "curves-vae", "curves-denoiser"}
    assert set(figures) == {"by_tissue"} | made  # no accuracies and modules in the scorecard, so no figures of them
    assert figures["by_tissue"]["layout"]["title"]["text"] == "given"


def test_privacy_names_who_is_recognised_on_either_side_of_chance(body):
    sentence = " ".join(re.search(r"Training donors are recognised[^<]*", body).group().split())
    found, _, rest = sentence.partition("By no attack here in: ")
    assert "memoriser (AUC 0.80" in found
    assert "ddpm (AUC 0.02" in found
    assert rest.startswith("real.")
    assert "proves nothing by itself" in body


def test_the_guide_explains_what_the_scorecard_has(body):
    guide = body.partition('<table class="guide">')[2]
    assert "<td>precision</td>" in guide
    assert "<td>membership attack, AUC</td>" in guide
    assert "wasserstein" not in guide


def test_a_missing_number_shows_its_reason_and_no_number(parts):
    rows = indicators()
    lost = (rows["generator"] == "ddpm") & (rows["metric"] == "recall")
    rows.loc[lost, "value"], rows.loc[lost, "note"] = np.nan, "only <12> profiles"
    parts["tables"]["scorecard"] = summarise(rows)
    body = body_of(parts)
    assert '<td class="missing" title="only &lt;12&gt; profiles">–</td>' in body
    assert "nan" not in body.partition('class="figure"')[0]


def test_rows_say_what_they_are_for_and_cells_what_they_rest_on(parts):
    parts["tables"]["scorecard"] = summarise(indicators()).assign(low=0.1, high=0.9, smallest_difference=0.25)
    body = body_of(parts)
    for name in ("ceiling", "warning", "floor"):
        assert re.search(f'<tr class="{name}"><td>[a-z_]+<span class="tag" title="[^"]+">{name}</span>', body)
    basis = "n = 50, 3 trainings, 95 % interval 0.100 to 0.900, smallest difference from real that shows: 0.25"
    assert f'title="{basis}"' in body
    assert re.search(r"<tfoot><tr[^>]*><td>smallest difference</td><td>0.250</td>", body)
    assert re.search(r'<th title="Share of synthetic profiles inside[^"]+">precision</th>', body)


def test_numbers_in_tables_are_short():
    values = [0.51234, 12.345, 1234.5, 3, 3_000_000, 2e-5, np.nan, None, "ridge", np.float32(0.25), np.int64(7)]
    shown = ["0.512", "12.3", "1,234", "3", "3,000,000", "2.0e-05", "–", "–", "ridge", "0.250", "7"]
    assert [number(value) for value in values] == shown
    assert plain_table(pd.DataFrame({"in_use": [7.0, np.nan]})) == {"heads": ["in use"], "rows": [["7"], ["–"]]}
