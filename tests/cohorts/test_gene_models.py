"""Gene models in GTF."""

from __future__ import annotations

import gzip

import pytest

from transcriptome_diffusion.cohorts.gene_models import coding_genes

GENCODE = """##description: evidence-based annotation of the human genome (GRCh38), version 26
chr1\tHAVANA\tgene\t11869\t14403\t.\t+\t.\tgene_id "ENSG00000223972.5"; transcript_id "ENSG00000223972.5"; gene_type \
"transcribed_unprocessed_pseudogene"; gene_name "DDX11L1"; level 2;
chr1\tHAVANA\ttranscript\t11869\t14409\t.\t+\t.\tgene_id "ENSG00000223972.5"; gene_type "protein_coding"; gene_name "X";
chr1\tHAVANA\tgene\t65419\t71585\t.\t+\t.\tgene_id "ENSG00000186092.4"; gene_type "protein_coding"; gene_name "OR4F5";
chrX\tHAVANA\tgene\t1187549\t1212750\t.\t-\t.\tgene_id "ENSG00000205755.11"; gene_type "protein_coding"; \
gene_name "CRLF2";
chrY\tHAVANA\tgene\t1187549\t1212750\t.\t-\t.\tgene_id "ENSG00000205755.11_PAR_Y"; gene_type "protein_coding"; \
gene_name "CRLF2";
"""
ENSEMBL = """1\thavana\tgene\t11869\t14409\t.\t+\t.\tgene_id "ENSG00000223972"; gene_version "5"; gene_name "DDX11L1"; \
gene_biotype "lncRNA";
1\thavana\tgene\t65419\t71585\t.\t+\t.\tgene_id "ENSG00000186092"; gene_version "7"; gene_biotype "protein_coding";
"""


def test_genes_come_without_version_and_without_the_copies_on_y(tmp_path):
    path = tmp_path / "gencode.v26.GRCh38.genes.gtf"
    path.write_text(GENCODE)
    assert coding_genes(path) == {"ENSG00000186092", "ENSG00000205755"}


def test_gzip_and_the_dialect_of_ensembl_are_understood(tmp_path):
    path = tmp_path / "Homo_sapiens.GRCh38.gtf.gz"
    path.write_bytes(gzip.compress(ENSEMBL.encode()))
    assert coding_genes(path) == {"ENSG00000186092"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no gene model"),
        (b"gene_id\tgene_type\nENSG1\tprotein_coding\n", "is no gene model"),
        (GENCODE.replace("protein_coding", "lncRNA").encode(), r"no gene of .* is protein_coding; .*lncRNA"),
        (gzip.compress(GENCODE.encode(), mtime=0)[:200], "is truncated: the gzip stream ends too early"),
        (b"\xff\xfe" + GENCODE.encode("utf-16-le"), "is not UTF-8"),
    ],
)
def test_what_is_no_gene_model_is_refused(tmp_path, content, message):
    path = tmp_path / "model.gtf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        coding_genes(path)
