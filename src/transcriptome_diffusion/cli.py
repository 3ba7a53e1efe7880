"""The command line: generate profiles and describe models from any folder; inside a project, Kedro's commands too."""

from __future__ import annotations

import sys
from copy import copy
from pathlib import Path
from typing import Any

import click

from transcriptome_diffusion import __version__

HELP = {"help_option_names": ["-h", "--help"]}


class _Commands(click.Group):
    """The commands of this module, and ``run``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), "run"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # Kedro's own command line asks here as well, so this has to be the real command
        return __getattr__("run") if cmd_name == "run" else super().get_command(ctx, cmd_name)


@click.group(name="transcriptome-diffusion", cls=_Commands, context_settings=HELP)
@click.version_option(__version__)
def cli() -> None:
    """Synthetic bulk RNA-seq profiles from diffusion models, measured against held-out donors."""


class _Profiles(click.ParamType):
    """``lung=500``."""

    name = "LABEL=NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        label, equals, number = str(value).rpartition("=")
        if not equals or not number.isdigit():
            self.fail(f"{value!r} is no LABEL=NUMBER, such as lung=500.", param, ctx)
        return label, int(number)


@cli.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder, such as data/06_models/vae.")
@click.option("--profiles", multiple=True, type=_Profiles(), help="How many of a label; may be repeated.")
@click.option("--total", type=click.IntRange(1), help="How many in all, in the proportions of training.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File; its ending says the format.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed, the same profiles.")
@click.option("--sampler", type=click.Choice(["ddpm", "ddim", "dpm_solver"]), help="Of a denoiser.")
@click.option("--steps", type=click.IntRange(1), help="Of the sampler.")
@click.option(
    "--transcriptome",
    default="none",
    show_default=True,
    help="All genes by ridge_noise, ridge, ols, mlp or mlp_noise, or by a model of all genes: direct.",
)
@click.option("--reconstructors", type=click.Path(path_type=Path), help="Folder; beside the model unless named.")
@click.option("--scale", type=click.Choice(["log2", "linear", "counts"]), default="log2", show_default=True)
@click.option(
    "--counts-of",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --scale counts, the training profiles (h5ad), best those of a cohort of read counts.",
)
@click.option(
    "--library-size",
    type=click.IntRange(1),
    help="With --scale counts, reads of every sample; needed where training profiles have no counts.",
)
def generate(
    model: Path,
    profiles: tuple[tuple[str, int], ...],
    total: int | None,
    out: Path,
    seed: int,
    sampler: str | None,
    steps: int | None,
    transcriptome: str,
    reconstructors: Path | None,
    scale: str,
    counts_of: Path | None,
    library_size: int | None,
) -> None:
    """Draw profiles from a trained model.

    For instance

    transcriptome-diffusion generate --model data/06_models/vae --profiles lung=500 --profiles liver=100 --out new.h5ad
    """
    from transcriptome_diffusion import generation

    try:
        generator = generation.load_generator(model, transcriptome == generation.DIRECT)
        labels = generation.label_table(generator, dict(profiles), total)
        how: dict[str, Any] = {}
        if sampler or steps:
            how["sampler"] = generation.sampler_of(generator, {"name": sampler} if sampler else {}, steps)
        found = reconstructors or generation.reconstructors_of(model, generator, transcriptome)
        scale, more = generation.all_genes_and_counts(generator, transcriptome, found, scale, counts_of, library_size)
        generation.Request(generator, labels, seed, scale, how | more).write(out)
    except (ValueError, OSError, MemoryError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{len(labels)} profiles: {out}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--card", is_flag=True, help="Write model_card.md beside the model again.")
@click.option(
    "--scorecard",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A scorecard.csv whose values go into the card.",
)
def describe(folder: Path, card: bool, scorecard: Path | None) -> None:
    """Say what a model was trained on, and how.

    With --card as a model card.
    """
    import pandas as pd
    import yaml

    from transcriptome_diffusion import generation
    from transcriptome_diffusion.generators.model_card import rows_of, write_card

    try:
        found = generation.describe(folder)
        if card or scorecard:
            table = pd.read_csv(scorecard) if scorecard else None
            click.echo(write_card(generation.first_training(folder), table, rows_of(str(found["generator"]))))
            return
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())


class _Files(click.ParamType):
    """``gan.h5ad``, or ``mine=gan.h5ad`` for a row of that name."""

    name = "[NAME=]FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        name, _, path = str(value).rpartition("=")
        if not Path(path).is_file():
            self.fail(f"there is no file {path}.", param, ctx)
        return name or Path(path).stem, Path(path)


@cli.command()
@click.option("--real", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), help="An h5ad.")
@click.option("--synthetic", required=True, multiple=True, type=_Files(), help="An h5ad, of any tool; may be repeated.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of the results.")
@click.option("--unit", help="Of the real values, such as counts or 'log2(TPM + 1)', if uns['unit'] lacks it.")
@click.option("--synthetic-unit", help="Of the synthetic values; that of the real ones unless named.")
@click.option("--transformed", is_flag=True, help="Values are VST, rlog, voom or the like, and are kept as they are.")
@click.option("--label", default="tissue", show_default=True, help="Column of obs with the class labels.")
@click.option("--donor", default="donor", show_default=True, help="Column of obs with the donors.")
@click.option("--split-column", help="Of obs, with train, validation or test; without it donors are split by --seed.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the split and of all scores.")
@click.option(
    "--folds", default=10, show_default=True, type=click.IntRange(4), help="Of the split; fewer for few donors."
)
@click.option("--draws", default=10, show_default=True, type=click.IntRange(1), help="Matched subsamples per metric.")
def score(
    real: Path,
    synthetic: tuple[tuple[str, Path], ...],
    out: Path,
    unit: str | None,
    synthetic_unit: str | None,
    transformed: bool,
    label: str,
    donor: str,
    split_column: str | None,
    seed: int,
    folds: int,
    draws: int,
) -> None:
    """Score synthetic profiles of any tool.

    Writes scorecard.csv and report.html. The tool must have learnt from the part `train` of the real profiles only.
    For instance

    transcriptome-diffusion score --real cohort.h5ad --split-column split --synthetic mine=gan.h5ad --out scores
    """
    import anndata as ad

    from transcriptome_diffusion import api
    from transcriptome_diffusion.reporting.scorecard import as_text

    try:
        profiles = api.prepare(ad.read_h5ad(real), unit, label, donor, transformed)
        parts = api.split(profiles, seed, split_column, folds)
        made = {}
        for name, path in synthetic:
            found = ad.read_h5ad(path)
            declared = synthetic_unit or found.uns.get("unit") or unit or str(profiles.uns["unit"])
            column = label if label in found.obs or "tissue" not in found.obs else "tissue"
            made[name] = api.prepare(found, declared, column, transformed=transformed, unit_check="warn")
        if split_column is None:
            click.echo(
                f"{real} names no split: donors were split with --seed {seed}. If the synthetic profiles were learnt "
                "from donors that are now in `test`, copies look better than they are; name --split-column then.",
                err=True,
            )
        result = api.compare(parts, made, {"seed": seed, "draws": draws}, report=True)
    except (ValueError, OSError, MemoryError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(as_text(result.scorecard, api.SPACE))
    click.echo(f"\nReport: {result.write(out) / 'report.html'}")


def __getattr__(name: str) -> Any:
    """``run``: Kedro's command with the runner of this project unless another one is asked for.

    Kedro looks for it in this module; it is made when it is asked for, since Kedro's command line takes half a second.
    """
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kedro.framework.cli.project import run

    command = copy(run)
    command.params = [copy(parameter) for parameter in run.params]
    for parameter in command.params:
        if parameter.name == "runner":
            parameter.default = "transcriptome_diffusion.runners.WorkersRunner"
    return command


def main() -> Any:
    """The console script: the commands of this module, and ``run``, which is Kedro's."""
    if sys.argv[1:2] == ["run"]:
        from kedro.framework.project import configure_project

        configure_project(Path(__file__).parent.name)
    return cli(standalone_mode=not hasattr(sys, "ps1"))
