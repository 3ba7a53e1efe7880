"""Files of full size in the published formats, with made-up values; gigabytes, to run the pipelines at that size.

Usage: python benchmarks/full_size.py gtex FOLDER [GENES] [SAMPLES]
       python benchmarks/full_size.py tcga FOLDER [GENES] [SAMPLES]
       python benchmarks/full_size.py firehose FOLDER [GENES] [SAMPLES]
       python benchmarks/full_size.py archs4 FOLDER [GENES] [SAMPLES]

``gtex`` writes the gene TPM (GCT 1.2, gz), sample attributes, subject phenotypes and gene model of release v8 under
their published names, 56,200 genes x 17,382 samples; ``tcga`` the plain EB++ matrix of the GDC, 20,531 x 11,069, and
its sample quality annotations; ``firehose`` the 33 cohorts of the Broad's Firehose, 20,531 x 11,069; ``archs4`` an HDF5
file of counts in the layout of ARCHS4 2.5, 20,000 x 100,000, of the tissues of GTEx. A pool of rows is
formatted once; a gene takes every tissue from one of them, begun at another sample, so that no two rows are alike and
gzip finds as little to share as in real values. Tissues differ, and genes of a module vary together.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from transcriptome_diffusion.expression.landmarks import load_panel

POOL, MODULES, TURNS = 400, 16, 40
CODING, PAR_Y = 18_700 / 56_200, 44
GTEX_MATRIX = "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_tpm.gct.gz"
GTEX_ATTRIBUTES = "GTEx_Analysis_v8_Annotations_SampleAttributesDS.txt"
GTEX_PHENOTYPES = "GTEx_Analysis_v8_Annotations_SubjectPhenotypesDS.txt"
GTEX_MODEL = "gencode.v26.GRCh38.genes.gtf"
TCGA_MATRIX = "EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.tsv"
TCGA_QUALITY = "merged_sample_quality_annotations.tsv"
FIREHOSE_SET = "rnaseqv2__illuminahiseq_rnaseqv2__unc_edu__Level_3__RSEM_genes_normalized__data"


def counts(text: str) -> dict[str, int]:
    """A table from its names and numbers: "Liver 226, Lung 578"."""
    return {name: int(count) for name, count in (entry.rsplit(" ", 1) for entry in text.split(", "))}


#: cancer type -> samples of EB++
CANCERS = counts(
    "BRCA 1218, KIRC 606, LUAD 576, THCA 572, UCEC 567, HNSC 566, LUSC 554, PRAD 550, LGG 534, COAD 495, SKCM "
    "474, STAD 450, BLCA 427, LIHC 424, KIRP 323, CESC 310, OV 309, SARC 265, ESCA 196, PCPG 187, PAAD 183, GBM "
    "174, LAML 173, READ 171, TGCT 156, THYM 122, KICH 91, MESO 87, UVM 80, ACC 79, UCS 57, DLBC 48, CHOL 45"
)
#: tissue -> sample count of GTEx v8 (Lacan et al. 2026); what is missing to 17,382 falls to tissues below 100
TISSUES = counts(
    "Adipose Tissue 1204, Adrenal Gland 258, Blood 929, Blood Vessel 1335, Brain 2642, Breast 459, Colon 779, "
    "Esophagus 1445, Heart 861, Liver 226, Lung 578, Muscle 803, Nerve 619, Ovary 180, Pancreas 328, Pituitary "
    "283, Prostate 245, Salivary Gland 162, Skin 1809, Small Intestine 187, Spleen 241, Stomach 359, Testis 361, "
    "Thyroid 653, Uterus 142, Vagina 156, Kidney 89, Cervix Uteri 19, Bladder 21, Fallopian Tube 9"
)


def rows(rng: np.random.Generator, sizes: Sequence[int], level: float, zeros: float, style: str) -> Iterator[bytes]:
    """Endless rows of tab-separated cells around 2^level, a share of ``zeros`` of them 0; ``sizes`` are the tissues'.

    Rows of one module and turn vary together within tissues, and a third of a gene's tissues have another level.
    """
    factors = rng.normal(size=(MODULES, sum(sizes)))
    ends = np.cumsum(sizes)
    turns = rng.random((TURNS, len(sizes)))
    pool = []
    for place in range(POOL):
        mean, share = rng.normal(level, 3.0), np.clip(rng.normal(zeros, 0.3), 0, 0.99)
        deviation = (factors[place % MODULES] + rng.normal(size=sum(sizes))) / np.sqrt(2)
        values = np.exp2(mean + deviation) * (rng.random(sum(sizes)) >= share)
        cells = np.char.mod(style, values).astype("S").tolist()
        pool.append([cells[end - size : end] for end, size in zip(ends, sizes, strict=True)])
    while True:
        module, turn = rng.integers(MODULES), turns[rng.integers(TURNS)]
        mates = module + MODULES * rng.integers(POOL // MODULES, size=len(sizes))
        mates[rng.random(len(sizes)) > 1 / 3] = mates[0]
        starts = (turn * sizes).astype(int)
        parts = [(pool[mate][block], start) for block, (mate, start) in enumerate(zip(mates, starts, strict=True))]
        yield b"\t".join(b"\t".join(cells[start:] + cells[:start]) for cells, start in parts)


def write_gtex(folder: Path, genes: int = 56_200, samples: int = 17_382) -> None:
    rng = np.random.default_rng(8)
    n_coding, n_copies = round(genes * CODING), round(genes * PAR_Y / 56_200)
    panel = load_panel()["ensembl_id"].tolist()[:n_coding]
    others = (f"ENSG{number:011d}" for number in itertools.count(99_000_000_001))
    ids = panel + list(itertools.islice(others, genes - n_copies - len(panel)))
    kinds = ["protein_coding"] * n_coding + ["lncRNA"] * (len(ids) - n_coding)
    order = rng.permutation(len(ids))
    ids, kinds = [ids[i] for i in order], [kinds[i] for i in order]
    lines = [(f"{gene}.{1 + i % 20}", kind) for i, (gene, kind) in enumerate(zip(ids, kinds, strict=True))]
    coding = [line for line in lines if line[1] == "protein_coding"]
    lines += [(f"{gene}_PAR_Y", kind) for gene, kind in coding[:n_copies]]
    with (folder / GTEX_MODEL).open("w", encoding="utf-8") as file:
        file.write("##description: made up\n")
        for place, (gene, kind) in enumerate(lines):
            span = f"{1000 * place + 1}\t{1000 * place + 900}"
            tags = f'gene_id "{gene}"; transcript_id "{gene}"; gene_type "{kind}"; gene_name "SYM{place}"; level 2;'
            for feature in ("gene", "transcript", *["exon"] * 6):
                file.write(f"chr1\tHAVANA\t{feature}\t{span}\t.\t+\t.\t{tags}\n")
    names, sizes = write_gtex_tables(folder, samples, rng)
    expressed, silent = rows(rng, sizes, 3.0, 0.15, "%.4g"), rows(rng, sizes, -2.5, 0.7, "%.4g")
    with gzip.open(folder / GTEX_MATRIX, "wb", compresslevel=6) as file:
        file.write(f"#1.2\n{genes}\t{samples}\nName\tDescription\t".encode() + "\t".join(names).encode() + b"\n")
        for place, (gene, kind) in enumerate(lines):
            values = next(expressed if kind == "protein_coding" else silent)
            file.write(f"{gene}\tSYM{place}\t".encode() + values + b"\n")


def write_gtex_tables(folder: Path, samples: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Sample attributes (with assays besides RNA-seq) and subject phenotypes; gives samples, tissue by tissue."""
    tissues = list(itertools.islice(itertools.cycle(t for t, count in TISSUES.items() for _ in range(count)), samples))
    donors = [f"GTEX-{10_000 + i:X}" for i in range(max(round(samples * 948 / 17_382), 10))]
    names, taken = [], 0
    with (folder / GTEX_ATTRIBUTES).open("w", encoding="utf-8") as file:
        file.write("SAMPID\tSMATSSCR\tSMCENTER\tSMPTHNTS\tSMRIN\tSMTS\tSMTSD\tSMUBRID\tSMAFRZE\n")
        for place, tissue in enumerate(tissues):
            donor = donors[rng.integers(len(donors))]
            names.append(f"{donor}-{place:04d}-SM-{200_000 + place:X}")
            notes = '2 pieces, "fatty' if place % 50 == 0 else "2 pieces"
            file.write(f"{names[-1]}\t1\tB1\t{notes}\t{rng.uniform(5, 9):.1f}\t{tissue}\t{tissue} - Part\t0\tRNASEQ\n")
            if place % 3 == 0:
                taken += 1
                file.write(f"{donor}-0004-SM-W{taken}\t\tB1\t\t\tBlood\tWhole Blood\t0\tWGS\n")
    with (folder / GTEX_PHENOTYPES).open("w", encoding="utf-8") as file:
        file.write("SUBJID\tSEX\tAGE\tDTHHRDY\n")
        for donor in donors:
            age = 20 + 10 * int(rng.integers(6))
            file.write(f"{donor}\t{rng.integers(1, 3)}\t{age}-{age + 9}\t{rng.integers(5)}\n")
    return names, [len(list(group)) for _, group in itertools.groupby(tissues)]


def tcga_genes(genes: int) -> list[str]:
    panel = load_panel()[:genes]
    ids = [f"{s}|{e}" for s, e in zip(panel["symbol"], panel["entrez_id"], strict=True)]
    return ids + [f"SYM{i}|{200_000_000 + i}" for i in range(genes - len(ids))]


def tcga_cohorts(samples: int) -> dict[str, list[str]]:
    """Barcodes of every cohort; one sample in fifteen is of normal tissue."""
    cohorts, place = {}, 0
    for cancer, count in CANCERS.items():
        places = range(place, place + max(round(count * samples / sum(CANCERS.values())), 15))
        cohorts[cancer] = [f"TCGA-{i % 36:02d}-{i:04X}-{'11A' if i % 15 == 0 else '01A'}-11R-A29S-07" for i in places]
        place = places.stop
    return cohorts


def write_tcga(folder: Path, genes: int = 20_531, samples: int = 11_069) -> None:
    rng = np.random.default_rng(9)
    cohorts = tcga_cohorts(samples)
    names = list(itertools.chain(*cohorts.values()))
    with (folder / TCGA_QUALITY).open("w", encoding="utf-8") as file:
        file.write("patient_barcode\taliquot_barcode\tcancer type\tplatform\tDo_not_use\n")
        for cancer, members in cohorts.items():
            for place, name in enumerate(members):
                file.write(f"{name[:12]}\t{name}\t{cancer}\tIlluminaHiSeq_RNASeqV2\t{place % 70 == 0}\n")
    values = rows(rng, [len(members) for members in cohorts.values()], 8.0, 0.15, "%.4f")
    gaps = rng.random(genes) < 4_196 / 20_531
    with (folder / TCGA_MATRIX).open("wb") as file:
        file.write(b"gene_id\t" + "\t".join(names).encode() + b"\n")
        for gene, gap in zip(tcga_genes(genes), gaps, strict=True):
            row = next(values)
            if gap:  # genes that one platform lacks are missing in a block of samples
                cells = row.split(b"\t")
                cells[: len(names) // 12] = [b"NA"] * (len(names) // 12)
                row = b"\t".join(cells)
            file.write(f"{gene}\t".encode() + row + b"\n")


def write_firehose(folder: Path, genes: int = 20_531, samples: int = 11_069) -> None:
    rng = np.random.default_rng(9)
    ids, cohorts = tcga_genes(genes), tcga_cohorts(samples)
    sizes = [len(members) for members in cohorts.values()]
    values, ends = rows(rng, sizes, 8.0, 0.15, "%.4f"), np.cumsum(sizes).tolist()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / f"{cohort}.{FIREHOSE_SET}.data.txt").open("wb")) for cohort in cohorts]
        for file, members in zip(files, cohorts.values(), strict=True):
            file.write("\t".join(["Hybridization REF", *members]).encode() + b"\n")
            file.write(b"\t".join([b"gene_id", *[b"normalized_count"] * len(members)]) + b"\n")
        for gene in ids:
            cells = next(values).split(b"\t")
            for file, end, size in zip(files, ends, sizes, strict=True):
                file.write(gene.encode() + b"\t" + b"\t".join(cells[end - size : end]) + b"\n")


def write_archs4(folder: Path, genes: int = 20_000, samples: int = 100_000) -> None:
    """Negative binomial counts, a chunk of samples after the other.

    Series are of one tissue; they have 30 samples on average, and fewer in a small file, for each tissue to have many.
    """
    rng = np.random.default_rng(10)
    panel = load_panel()
    ids = panel["ensembl_id"].tolist()[:genes] + [
        f"ENSG{i:011d}" for i in range(90_000_000_000, 90_000_000_000 + genes)
    ]
    symbols = panel["symbol"].tolist()[:genes] + [f"SYM{i}" for i in range(genes)]
    tissues = list(TISSUES)
    series = np.cumsum(rng.random(samples) < 1 / np.clip(samples / 3000, 1, 30))
    shares = np.array(list(TISSUES.values())) / sum(TISSUES.values())
    tissue = rng.choice(len(tissues), size=series.max() + 1, p=shares)[series]
    levels = rng.normal(4.0, 2.0, size=genes) + 1.5 * rng.normal(size=(len(tissues), genes)) * (rng.random(genes) < 0.3)
    loadings = 0.4 * rng.normal(size=(MODULES, genes))
    text = h5py.string_dtype()
    with h5py.File(folder / "human_gene_v2.5.h5", "w") as file:
        matrix = file.create_dataset(
            "data/expression",
            (genes, samples),
            "uint32",
            chunks=(min(2000, genes), min(200, samples)),
            compression="lzf",
        )
        for start in range(0, samples, 1000):
            chosen = tissue[start : start + 1000]
            logs = levels[chosen] + rng.normal(size=(len(chosen), MODULES)) @ loadings
            means = np.exp2(logs + rng.normal(0.0, 0.5, size=(len(chosen), 1)))
            matrix[:, start : start + 1000] = rng.poisson(means * rng.gamma(5.0, 0.2, size=means.shape)).T
        columns = {
            "genes/ensembl_gene": ids[:genes],
            "genes/symbol": symbols[:genes],
            "samples/geo_accession": [f"GSM{i}" for i in range(samples)],
            "samples/series_id": [f"GSE{i}" for i in series],
            "samples/source_name_ch1": [f"{tissues[i]} tissue" for i in tissue],
            "samples/title": [f"sample {i}" for i in range(samples)],
            "samples/characteristics_ch1": ["sex: unknown"] * samples,
        }
        for name, values in columns.items():
            file.create_dataset(f"meta/{name}", data=np.array(values, dtype=object), dtype=text)
        file["meta/samples/singlecellprobability"] = rng.beta(1, 20, size=samples)


def main(what: str, folder: Path, *sizes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    writers = {"gtex": write_gtex, "tcga": write_tcga, "firehose": write_firehose, "archs4": write_archs4}
    writers[what](folder, *sizes)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
