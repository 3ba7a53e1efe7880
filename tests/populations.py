"""A population whose tissues, tumours and gene modules are known, for tests of what is scored."""

import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.profiles import make_profiles

GENES = 240
UNIT = "log2(CPM + 1)"
POPULATION = np.random.default_rng(42)
CENTRES = dict(zip(("brain", "liver", "skin"), POPULATION.normal(6, 1, (3, GENES)), strict=True))
TUMOUR = POPULATION.normal(0, 1, GENES)
#: two modules of thirty genes each, one scale per gene
LOADINGS = np.kron(np.eye(2), np.ones(30)) @ np.eye(60, GENES)
SCALE = POPULATION.uniform(0.5, 1.5, GENES)


def draw(sizes, seed, change=lambda values, labels: values, donors=True):
    """Profiles in the log unit; every third is a tumour, two neighbours share a donor."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(sizes), list(sizes.values()))
    own = (rng.normal(size=(len(labels), 2)) @ LOADINGS + rng.normal(0, 0.7, (len(labels), GENES))) * SCALE
    kinds = np.where(np.arange(len(labels)) % 3, "normal", "tumor")
    values = np.stack([CENTRES[label] for label in labels]) + own + (kinds == "tumor")[:, None] * TUMOUR
    names = [f"{seed}-{i}" for i in range(len(labels))]
    obs = pd.DataFrame({"tissue": labels, "sample_type": kinds}, index=names)
    if donors:
        obs["donor"] = [f"{seed}-{i // 2}" for i in range(len(labels))]
    genes = [f"G{i}" for i in range(GENES)]
    var = pd.DataFrame({"symbol": genes, "entrez_id": "", "ensembl_id": "", "is_landmark": True}, index=genes)
    return make_profiles(change(values, labels).astype(np.float32), obs, var, UNIT)


SIZES = {"brain": 120, "liver": 90, "skin": 60}
