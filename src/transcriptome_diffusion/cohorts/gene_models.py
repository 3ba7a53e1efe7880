"""Gene models in GTF (https://www.gencodegenes.org/pages/data_format.html), for what a gene is: coding or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from transcriptome_diffusion.cohorts.tables import text_blocks
from transcriptome_diffusion.expression.identifiers import is_par_y, without_version

CODING = "protein_coding"

# GENCODE says gene_type, Ensembl gene_biotype
_ATTRIBUTE = re.compile(r'(gene_id|gene_type|gene_biotype) "([^"]*)"')


def coding_genes(path: str | Path) -> set[str]:
    """The protein-coding genes of a GTF file, plain or gzip, as Ensembl ids without version.

    Y copies of pseudoautosomal genes are left to their X copies.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, no line of it describes a gene with an id and a type, or none is coding.
    """
    genes = list(_genes(Path(path)))
    coding = {gene for gene, kind in genes if kind == CODING}
    if not coding:
        raise ValueError(f"no gene of {path} is {CODING}; its types are {sorted({kind for _, kind in genes})[:10]}.")
    return coding


def _genes(path: Path) -> Iterator[tuple[str, str]]:
    """Id and type of one gene after the other."""
    found = 0
    try:
        for block in text_blocks(path):
            for line in block.decode().splitlines():
                cells = line.split("\t", 8)
                if len(cells) < 9 or cells[2] != "gene":
                    continue
                about = dict(_ATTRIBUTE.findall(cells[8]))
                gene, kind = about.get("gene_id", ""), about.get("gene_type") or about.get("gene_biotype")
                if gene and kind and not is_par_y(gene):
                    found += 1
                    yield without_version(gene), kind
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}). Fetch the file again.") from error
    if not found:
        raise ValueError(
            f"{path} is no gene model: expected lines of GTF with the feature 'gene', a gene_id and a gene_type."
        )
