"""Files of full size in the published formats, with made-up values; gigabytes, made for ``read_matrix.py``.

Usage: python benchmarks/full_size.py gtex FOLDER [GENES] [SAMPLES]
       python benchmarks/full_size.py tcga FOLDER [GENES] [SAMPLES]

``gtex`` writes the gene TPM (GCT 1.2, gz), sample attributes, subject phenotypes and gene model of release v8 under
their published names, 56,200 genes x 17,382 samples; ``tcga`` the plain EB++ matrix of the GDC, 20,531 x 11,069, and
its sample quality annotations. A pool of rows is formatted once; a gene is one of them, begun at another sample, so
that no two rows are alike and gzip finds as little to share as in real values.
"""

from __future__ import annotations

import gzip
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from transcriptome_diffusion.cohorts.tcga import DISEASES
from transcriptome_diffusion.expression.landmarks import load_panel

POOL = 400
CODING, PAR_Y = 18_700 / 56_200, 44
GTEX_MATRIX = "GTEx_Analysis_2017-06-05_v8_RNASeQCv1.1.9_gene_tpm.gct.gz"
GTEX_ATTRIBUTES = "GTEx_Analysis_v8_Annotations_SampleAttributesDS.txt"
GTEX_PHENOTYPES = "GTEx_Analysis_v8_Annotations_SubjectPhenotypesDS.txt"
GTEX_MODEL = "gencode.v26.GRCh38.genes.gtf"
TCGA_MATRIX = "EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.tsv"
TCGA_QUALITY = "merged_sample_quality_annotations.tsv"
#: tissue -> sample count of GTEx v8 (Lacan et al. 2026); what is missing to 17,382 falls to tissues below 100
TISSUES = {
    "Adipose Tissue": 1204,
    "Adrenal Gland": 258,
    "Blood": 929,
    "Blood Vessel": 1335,
    "Brain": 2642,
    "Breast": 459,
    "Colon": 779,
    "Esophagus": 1445,
    "Heart": 861,
    "Liver": 226,
    "Lung": 578,
    "Muscle": 803,
    "Nerve": 619,
    "Ovary": 180,
    "Pancreas": 328,
    "Pituitary": 283,
    "Prostate": 245,
    "Salivary Gland": 162,
    "Skin": 1809,
    "Small Intestine": 187,
    "Spleen": 241,
    "Stomach": 359,
    "Testis": 361,
    "Thyroid": 653,
    "Uterus": 142,
    "Vagina": 156,
    "Kidney": 89,
    "Cervix Uteri": 19,
    "Bladder": 21,
    "Fallopian Tube": 9,
}


def rows(rng: np.random.Generator, samples: int, level: float, zeros: float, style: str) -> Iterator[bytes]:
    """Endless rows of ``samples`` tab-separated cells around 2^level, a share of ``zeros`` of them 0."""
    pool = []
    for _ in range(POOL):
        mean, share = rng.normal(level, 3.0), np.clip(rng.normal(zeros, 0.3), 0, 0.99)
        values = np.exp2(rng.normal(mean, 1.0, samples)) * (rng.random(samples) >= share)
        text = b"\t".join(np.char.mod(style, values).astype("S").tolist())
        starts = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\t")) + 1
        pool.append((text, starts))
    while True:
        text, starts = pool[rng.integers(POOL)]
        start = starts[rng.integers(len(starts))] if len(starts) else 0
        yield text[start:] + b"\t" + text[: start - 1] if start else text


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
    names = write_gtex_tables(folder, samples, rng)
    expressed, silent = rows(rng, samples, 3.0, 0.15, "%.4g"), rows(rng, samples, -2.5, 0.7, "%.4g")
    with gzip.open(folder / GTEX_MATRIX, "wb", compresslevel=6) as file:
        file.write(f"#1.2\n{genes}\t{samples}\nName\tDescription\t".encode() + "\t".join(names).encode() + b"\n")
        for place, (gene, kind) in enumerate(lines):
            values = next(expressed if kind == "protein_coding" else silent)
            file.write(f"{gene}\tSYM{place}\t".encode() + values + b"\n")


def write_gtex_tables(folder: Path, samples: int, rng: np.random.Generator) -> list[str]:
    """Sample attributes (with assays besides RNA-seq) and subject phenotypes; gives the RNA-seq samples."""
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
    return names


def write_tcga(folder: Path, genes: int = 20_531, samples: int = 11_069) -> None:
    rng = np.random.default_rng(9)
    panel = load_panel()[:genes]
    ids = [f"{s}|{e}" for s, e in zip(panel["symbol"], panel["entrez_id"], strict=True)]
    ids += [f"SYM{i}|{200_000_000 + i}" for i in range(genes - len(ids))]
    names = [f"TCGA-{i % 36:02d}-{i:04X}-{'11A' if i % 15 == 0 else '01A'}-11R-A29S-07" for i in range(samples)]
    with (folder / TCGA_QUALITY).open("w", encoding="utf-8") as file:
        file.write("patient_barcode\taliquot_barcode\tcancer type\tplatform\tDo_not_use\n")
        cancers = sorted(DISEASES.values())
        for place, name in enumerate(names):
            cancer = cancers[place % len(cancers)]
            file.write(f"{name[:12]}\t{name}\t{cancer}\tIlluminaHiSeq_RNASeqV2\t{place % 70 == 0}\n")
    values, gaps = rows(rng, samples, 8.0, 0.15, "%.4f"), rng.random(genes) < 4_196 / 20_531
    with (folder / TCGA_MATRIX).open("wb") as file:
        file.write(b"gene_id\t" + "\t".join(names).encode() + b"\n")
        for gene, gap in zip(ids, gaps, strict=True):
            row = next(values)
            if gap:  # genes that one platform lacks are missing in a block of samples
                cells = row.split(b"\t")
                cells[: samples // 12] = [b"NA"] * (samples // 12)
                row = b"\t".join(cells)
            file.write(f"{gene}\t".encode() + row + b"\n")


def main(what: str, folder: Path, *sizes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    {"gtex": write_gtex, "tcga": write_tcga}[what](folder, *sizes)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
