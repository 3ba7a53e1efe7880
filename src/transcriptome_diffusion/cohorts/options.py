"""Options of the readers and of the download."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from transcriptome_diffusion.expression.options import GeneIds, Negative
from transcriptome_diffusion.options import Options


def refuse_tissue(options: Any) -> Any:
    """Say where the class label is chosen, instead of calling the option unknown."""
    if isinstance(options, dict) and "tissue" in options:
        raise ValueError(
            f"a reader takes no `tissue`: the class label is chosen in conf/<env>/parameters_ingestion.yml, as "
            f"ingestion: {{label: {options['tissue']}}}, or with --params ingestion.label={options['tissue']}."
        )
    return options


class ReaderOptions(Options):
    """What every reader of files can be told."""

    negative: Negative = Field(
        default="refuse",
        description="values below those of an unexpressed gene, which a correction of batches leaves: an error, zero, "
        "or kept below zero in log2(x + 1)",
    )


class RNAseqDBOptions(ReaderOptions):
    """Which of the published RNAseqDB files are read."""

    kinds: list[Literal["gtex", "tcga", "tcga-t"]] = Field(
        default=["gtex", "tcga", "tcga-t"],
        min_length=1,
        description="GTEx normals, TCGA normals adjacent to a tumour, TCGA tumours",
    )
    values: Literal["fpkm", "counts"] = Field(
        default="fpkm", description="normalised, batch-corrected FPKM, or RSEM's expected counts"
    )


class GTExOptions(ReaderOptions):
    """What of a GTEx release is read; the further files stand beside the matrix, or where they are said to."""

    values: Literal["tpm", "counts"] = Field(default="tpm", description="the matrix *gene_tpm*, or *gene_reads*")
    genes: Literal["coding", "all"] = Field(default="coding", description="all needs no gene model")
    attributes: str | None = Field(default=None, description="path from the matrix's folder; null: by published name")
    phenotypes: str | None = Field(default=None, description="likewise")
    gene_model: str | None = Field(default=None, description="likewise, a GTF file")

    _tissue = model_validator(mode="before")(refuse_tissue)


class TCGAOptions(ReaderOptions):
    """Which TCGA samples are read, and from which packaging of them."""

    packaging: Literal["gdc", "xena", "firehose"] | None = Field(
        default=None, description="null: the one whose files are in the folder"
    )
    sample_types: list[Literal["tumor", "normal"]] = Field(
        default=["tumor", "normal"], min_length=1, description="by the barcode: codes 01 to 09, and 10 to 19"
    )
    do_not_use: Literal["drop", "keep"] = Field(
        default="drop", description="samples that the quality annotations mark Do_not_use"
    )
    require: list[Literal["age", "sex"]] = Field(
        default=[], description="samples without are left out, as in Lacan et al.; needs the clinical tables"
    )
    unions: Literal["leave_out", "twice"] = Field(
        default="leave_out",
        description="Firehose's union cohorts, whose members are there: twice reads their samples once more",
    )
    negative: Negative = Field(default="zero", description="the adjustment of EB++ left some")


class ToilOptions(ReaderOptions):
    """Which samples and genes of the Toil recompute are read."""

    studies: list[Literal["TCGA", "TARGET", "GTEX"]] = Field(default=["TCGA", "TARGET", "GTEX"], min_length=1)
    sample_types: list[Literal["tumor", "normal", "cell_line"]] = Field(default=["tumor", "normal"], min_length=1)
    genes: Literal["coding", "all"] = Field(
        default="all", description="coding needs a gene model (GTF) beside the matrix, such as GENCODE 23"
    )

    _tissue = model_validator(mode="before")(refuse_tissue)


class ARCHS4Options(Options):
    """Which samples of an ARCHS4 file are read, and what names their classes: a table, or words."""

    classes: str | None = Field(
        default=None, description="table with columns `sample` (GEO accession) and `tissue`, from the file's folder"
    )
    words: dict[str, list[str]] = Field(
        default={}, description="without a table: by class, words in `fields`; samples of two classes are left out"
    )
    fields: list[str] = Field(
        default=["source_name_ch1", "title"],
        min_length=1,
        description="columns of the file in which words are looked for",
    )
    genes: Literal["all", "landmarks"] = Field(
        default="all", description="landmarks reads a twentieth, as CPM; all genes of 10,000 samples take 2.5 GB"
    )
    single_cell: float = Field(
        default=0.5, ge=0, le=1, description="samples that are more probably single cells are left out"
    )
    most_per_class: int | None = Field(default=None, ge=1, description="samples of a class, drawn by `seed`; null: all")
    seed: int = Field(default=0, ge=0)

    @field_validator("words")
    @classmethod
    def _name_words(cls, words: dict[str, list[str]]) -> dict[str, list[str]]:
        if empty := [name for name, own in words.items() if not own or not all(word.strip() for word in own)]:
            raise ValueError(f"`words` has no word for {empty}.")
        return words

    @model_validator(mode="after")
    def _classes_come_from_somewhere(self) -> Self:
        if (self.classes is None) == (not self.words):
            raise ValueError(
                "an ARCHS4 file has no classes of its own: name a table as `classes`, or the words of each class as "
                "`words: {lung: [lung, bronchus], liver: [liver, hepatocyte]}`; one of the two."
            )
        return self


class OwnOptions(ReaderOptions):
    """One matrix (or folder of quantifications), one sample table, if need be one gene table; columns and unit."""

    samples: str | None = Field(default=None, description="sample table, from the matrix's folder; null: the h5ad's")
    columns: dict[str, str] = Field(
        default={}, description="ours to yours: sample, tissue, donor, study, file, and further covariates"
    )
    genes: str | None = Field(default=None, description="gene table, from the matrix's folder")
    gene_columns: dict[str, str] = Field(
        default={},
        description="ours to yours: gene (the id in the matrix), symbol, entrez_id, ensembl_id, length (in bases)",
    )
    gene_ids: GeneIds | None = Field(default=None, description="null: recognised; a mixture is refused")
    unit: str | None = Field(
        default=None, description="TPM, log2(TPM + 1), log2(TPM + 0.001), ...; null: found out where it can be"
    )
    scale: Literal["expression", "transformed"] = Field(
        default="expression",
        description="transformed: VST, rlog, voom, corrected logarithms; kept as they are, `unit` is their name",
    )
    genes_in: Literal["rows", "columns"] | None = Field(
        default=None, description="null: where the sample table's ids are not"
    )
    id_columns: Literal[1, 2] | None = Field(
        default=None, description="of a text matrix; the second names the genes' symbols; null: found out"
    )
    separator: str | None = Field(
        default=None, min_length=1, max_length=1, description="of the text of matrix and tables; null: found out"
    )
    decimal: Literal[".", ","] = Field(default=".", description="decimal sign of a text matrix")
    tx2gene: str | None = Field(
        default=None, description="table of transcripts and genes, for a folder of salmon's or kallisto's files"
    )
    strand: Literal["unstranded", "forward", "reverse"] = Field(
        default="unstranded", description="which column of STAR's ReadsPerGene.out.tab"
    )
    layer: str | None = Field(default=None, description="of an h5ad, in place of X")
    repeated_genes: Literal["sum", "max", "mean", "drop"] = Field(
        default="sum", description="what becomes of rows of one gene id; of a transformed scale, mean in place of sum"
    )
    encoding: str = Field(default="utf-8", description="of the sample and the gene table")

    @model_validator(mode="after")
    def _name_the_transformed_scale(self) -> Self:
        if self.scale == "transformed" and not self.unit:
            raise ValueError("`scale: transformed` needs a name of the scale as `unit`, for instance VST.")
        if self.scale == "transformed" and self.negative != "refuse":
            raise ValueError("`scale: transformed` keeps all values as they are: remove `negative`.")
        return self

    @field_validator("gene_columns")
    @classmethod
    def _know_the_gene_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        known = {"gene", "symbol", "entrez_id", "ensembl_id", "length"}
        if unknown := sorted(set(columns) - known):
            raise ValueError(f"gene_columns knows {sorted(known)}, not {unknown}.")
        return columns


class SimulationOptions(Options):
    """The simulated cohort: ``structure_seed`` fixes the population, ``draw_seed`` the samples drawn from it."""

    samples: int = Field(default=600, ge=1)
    tissues: int = Field(default=8, ge=1)
    targets: int = Field(default=2000, ge=0)
    structure_seed: int = Field(default=0, ge=0)
    draw_seed: int = Field(default=1, ge=0)
    tumours: bool = Field(
        default=False, description="tissues of unequal size, each with normal samples of two studies and tumours"
    )


class PublishedFile(Options):
    """One file of a cohort, and where its publisher keeps it."""

    name: str = Field(pattern=r"^[^/\\]+$", description="under which it is kept")
    url: str | None = Field(default=None, description="complete, or relative to `base`; null: the name itself")
    bytes: PositiveInt | None = Field(default=None, description="its size, where known")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="of its bytes, where known")
    member: str | None = Field(
        default=None, description="pattern of the one file to keep of a tar archive; null keeps the file as it comes"
    )
    each: list[str] = Field(default=[], description="a file for each of these, in place of {} in name and url")

    @model_validator(mode="after")
    def _one_file_has_the_size(self) -> Self:
        if self.each and (self.bytes or self.sha256 or "{}" not in self.name):
            raise ValueError(f"{self.name}: `each` needs {{}} in the name, and is of several sizes and hashes.")
        return self

    def expanded(self) -> list[PublishedFile]:
        """The files meant, each on its own."""
        if not self.each:
            return [self]
        url = self.url
        return [
            PublishedFile(name=self.name.replace("{}", one), url=url and url.replace("{}", one), member=self.member)
            for one in self.each
        ]


class DownloadOptions(Options):
    """The published files of a cohort, and how patiently they are fetched."""

    folder: str = Field(default="data/01_raw", description="where `raw_cohort` reads them")
    base: str | None = Field(default=None, description="address of the publisher's folder, with a slash at its end")
    files: list[PublishedFile] = Field(default=[])
    retries: int = Field(default=5, ge=0, description="attempts in a row that may bring nothing new")
    pause: float = Field(default=2.0, ge=0, description="seconds before the first of them; doubles up to a minute")
    timeout: float = Field(default=60.0, gt=0, description="seconds of silence that count as a dropped connection")

    @field_validator("files")
    @classmethod
    def _name_each(cls, files: list[PublishedFile]) -> list[PublishedFile]:
        return [one for file in files for one in file.expanded()]

    def address(self, file: PublishedFile) -> str:
        """The complete address of ``file``."""
        from urllib.parse import quote, urljoin

        return urljoin(self.base or "", file.url or quote(file.name))

    @model_validator(mode="after")
    def _addresses_are_complete(self) -> Self:
        for file in self.files:
            if not (address := self.address(file)).startswith(("http://", "https://")):
                raise ValueError(f"{file.name}: {address!r} is no http(s) address; complete `url` or `base`.")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("two of `files` have the same name.")
        return self
