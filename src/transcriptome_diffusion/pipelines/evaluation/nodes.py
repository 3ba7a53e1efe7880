"""Nodes of the evaluation: reference rows, one score per generator and space, scorecard, figures, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.generators.registry import RECONSTRUCTORS
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

logger = logging.getLogger(__name__)


def draw_memoriser(
    landmarks: AnnData, expression: AnnData, sampling: SamplingOptions, options: EvaluationOptions
) -> tuple[AnnData, AnnData]:
    """The warning row: training profiles resampled, landmarks and transcriptome of the same donors."""
    from transcriptome_diffusion.generators.memoriser import memorise

    labels = landmarks.obs
    return (
        memorise(landmarks, labels, [options.label], sampling.seed),
        memorise(expression, labels, [options.label], sampling.seed),
    )


def prepare_oracle(oracle: AnnData, expression: AnnData, landmarks: AnnData) -> tuple[AnnData, AnnData]:
    """Fresh draws of a simulated population on the cohort's genes; without an oracle, no profiles at all."""
    from transcriptome_diffusion.expression.units import to_log2

    if not oracle.n_obs:
        return landmarks[:0].copy(), expression[:0].copy()
    fresh = to_log2(oracle)
    return fresh[:, landmarks.var_names].copy(), fresh[:, expression.var_names].copy()


def fit_yardsticks(train: AnnData, validation: AnnData, options: EvaluationOptions) -> Any:
    """Scale, principal axes, tissue classifier and co-expression modules of real donors, shared by all rows."""
    from transcriptome_diffusion.expression.profiles import dense
    from transcriptome_diffusion.memory import SMALLER, require_memory
    from transcriptome_diffusion.metrics.profile_set import ProfileSet
    from transcriptome_diffusion.metrics.utility import MAX_INPUTS
    from transcriptome_diffusion.metrics.yardsticks import Yardsticks

    # both standardised, the copy that axes are looked for in, and three times the axes
    needed = 4.0 * (2 * train.n_obs + validation.n_obs + 3 * MAX_INPUTS) * train.n_vars
    require_memory(f"fitting the yardsticks of {train.n_vars} genes", needed, SMALLER)
    fitted, seen = (ProfileSet(dense(p), p.obs[options.label].astype(str).to_numpy()) for p in (train, validation))
    return Yardsticks.fit(fitted, seen, train.var_names, options.components, options.classifier)


def _row(profiles: AnnData, yardsticks: Any, options: EvaluationOptions) -> Any:
    return yardsticks.measure(profiles, options.label, options.contrast and options.contrast.column)


def scoring(row: str, space: str, way: str) -> Callable[..., Any]:
    """The node that scores one row of the scorecard: a generator in one space, by one way to the transcriptome."""

    def score(
        train: AnnData,
        validation: AnnData,
        test: AnnData,
        yardsticks: Any,
        gene_sets: dict[str, tuple[str, ...]],
        options: EvaluationOptions,
        *candidates: AnnData,
    ) -> tuple[DataFrame, DataFrame]:
        """``candidates`` are the row's profiles; none for real donors. Single values, and those of single tissues."""
        import pandas as pd

        from transcriptome_diffusion.expression.profiles import split_runs
        from transcriptome_diffusion.memory import SMALLER, require_memory
        from transcriptome_diffusion.metrics import indicators
        from transcriptome_diffusion.metrics.biology.gene_sets import match_gene_sets
        from transcriptome_diffusion.reporting.scorecard import NO_WAY

        names = {"generator": row, "reconstructor": way or NO_WAY, "space": space}
        if any(not profiles.n_obs for profiles in candidates):
            logger.info("%s: no profiles, so no row in the %s scorecard", row, space)
            none = pd.DataFrame(columns=[*names, "run", *indicators.COLUMNS])
            return none, pd.DataFrame(columns=[*names, "run", *indicators.TISSUE_COLUMNS])
        held = train.n_obs + validation.n_obs + test.n_obs
        # of one run: the next is standardised when the last is scored
        made = max((part.n_obs for profiles in candidates for _, part in split_runs(profiles)), default=0)
        require_memory(
            f"scoring {row} with {train.n_vars} genes",
            # standardised beside the profiles, and the copy that distances and axes work on
            4.0 * (held + made + max(train.n_obs, made)) * train.n_vars,
            SMALLER,
        )
        sets = match_gene_sets(gene_sets, train.var[options.gene_names].astype(str)) if gene_sets else {}
        members, seen, others = (_row(part, yardsticks, options) for part in (train, validation, test))
        real = indicators.Real(members, seen, others, yardsticks, sets)
        sides: Iterable[tuple[int, Any, Any]] = [(1, real.train, real.test)]
        if candidates:
            sides = ((run, *[_row(part, yardsticks, options)] * 2) for run, part in split_runs(candidates[0]))
        singles, tissues = [], []
        for run, against_test, against_train in sides:
            single, by_tissue = indicators.score(against_test, against_train, real, options, space)
            singles.append(single.assign(run=run))
            tissues.append(by_tissue.assign(run=run))
        return _named(singles, names), _named(tissues, names)

    return score


def _named(tables: list[DataFrame], names: dict[str, str]) -> DataFrame:
    """The tables of all runs below each other, with these columns in front, and the run behind them."""
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    return table.assign(**names)[[*names, "run", *table.columns.drop("run")]]


def collect_scorecard(*indicators: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Means, spreads and sizes of all rows, and all single values; the tables a reader wants first go to the log."""
    import pandas as pd

    from transcriptome_diffusion.reporting import scorecard

    found = [part for part in indicators if len(part)]
    table = scorecard.collect(found)
    for space in table["space"].unique():
        logger.info("scorecard, %s", scorecard.as_text(table, space))
    single = pd.concat(found, ignore_index=True).drop(columns=["low", "high", "note"])
    return table, single


def collect_tissues(*tables: DataFrame) -> DataFrame:
    """Values of single tissues: of several runs the first, since tissues differ by far more than runs do."""
    import pandas as pd

    together = pd.concat([part for part in tables if len(part)], ignore_index=True)
    return together[together["run"] == 1].drop(columns="run")


def scoring_privacy(row: str) -> Callable[..., Any]:
    """The node that asks what one row's landmark profiles tell about the training donors."""

    def score_privacy(
        train: AnnData,
        validation: AnnData,
        test: AnnData,
        yardsticks: Any,
        options: EvaluationOptions,
        *candidates: AnnData,
    ) -> DataFrame:
        """``candidates`` are the row's profiles; none for real donors, half of whom then stand for synthetic ones."""
        from transcriptome_diffusion.expression.profiles import split_runs
        from transcriptome_diffusion.metrics.privacy import halves, privacy

        members, reference, others = (_row(part, yardsticks, options).records for part in (train, validation, test))
        if candidates:
            runs = [(run, _row(part, yardsticks, options)) for run, part in split_runs(candidates[0]) if part.n_obs]
        else:
            one, other = halves(members, options.seed)
            runs, members = [(1, members.take(one))], members.take(other)
        tables = [
            privacy(found.values, found.labels, members, others, reference, options.seed).assign(generator=row, run=run)
            for run, found in runs
        ]
        return _concatenated(tables, PRIVACY_COLUMNS)

    return score_privacy


#: of the tables of privacy indicators, and of the loss attack at single times
PRIVACY_COLUMNS = ["generator", "run", "metric", "value", "low", "high", "null", "n", "note"]
TIME_COLUMNS = ["generator", "run", "attack", "time", "value", "low", "high"]


def attacking(name: str) -> Callable[..., Any]:
    """The node that holds a trained denoiser itself, and compares its losses on members and on held-out donors."""

    def attack(train: AnnData, test: AnnData, models: Any, options: EvaluationOptions) -> tuple[DataFrame, DataFrame]:
        """The white-box loss attack on every run: its indicators, and its AUC at single times."""
        from transcriptome_diffusion.generators.diffusion.model import LOSS_TIMES
        from transcriptome_diffusion.metrics.membership import loss_attack
        from transcriptome_diffusion.metrics.profile_set import ProfileSet

        members, others = (
            ProfileSet(p, p.obs[options.label].astype(str).to_numpy(), p.obs["donor"].astype(str).to_numpy())
            for p in (train, test)
        )
        tables, by_time = [], []
        for run, model in enumerate(models, 1):
            for kind, relative in (("loss_attack", False), ("loss_attack_relative", True)):

                def loss(profiles: AnnData, model: Any = model, relative: bool = relative) -> Any:
                    return model.per_profile_loss(profiles, options.seed, LOSS_TIMES, relative=relative)

                found, times = loss_attack(loss, members, others, LOSS_TIMES, options.seed, kind)
                tables.append(found.assign(generator=name, run=run))
                by_time.append(times.assign(generator=name, run=run, attack=kind))
        return _concatenated(tables, PRIVACY_COLUMNS), _concatenated(by_time, TIME_COLUMNS)

    return attack


def _concatenated(tables: list[DataFrame], columns: list[str]) -> DataFrame:
    import pandas as pd

    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def collect_privacy(*tables: DataFrame) -> DataFrame:
    """All rows; how well the strongest attack recognises training donors goes to the log."""
    table = _concatenated([part for part in tables if len(part)], PRIVACY_COLUMNS)
    areas = table[table["metric"].str.endswith("_auc")]
    worst = areas.loc[areas.groupby("generator", sort=False)["value"].idxmax().dropna().astype(int)]
    shown = worst[["generator", "metric", "value", "low", "high"]].round(3).to_string(index=False)
    logger.info("privacy, the strongest membership attack on each row (AUC, .5 recognises nobody)\n%s", shown)
    return table


def collect_attacks(*tables: DataFrame) -> DataFrame:
    """The loss attack at single times, of all models."""
    return _concatenated(list(tables), TIME_COLUMNS)


def score_reconstruction(
    landmarks_test: AnnData, expression_test: AnnData, *reconstructors: Any
) -> tuple[DataFrame, DataFrame, Figure]:
    """How well targets of held-out donors are rebuilt from their real landmarks: in a dozen numbers, and by gene."""
    import pandas as pd

    from transcriptome_diffusion.expression.profiles import dense
    from transcriptome_diffusion.metrics.regression import by_gene, summarise
    from transcriptome_diffusion.reporting.figures import reconstruction_by_gene

    targets = ~expression_test.var_names.isin(landmarks_test.var_names)
    real, genes = dense(expression_test)[:, targets], expression_test.var[targets]
    tables = {
        name: by_gene(real, dense(model.reconstruct(landmarks_test))[:, targets], model.outputs, genes)
        for name, model in zip(RECONSTRUCTORS, reconstructors, strict=True)
    }
    summary = [{"reconstructor": name, "n": len(real), **summarise(table)} for name, table in tables.items()]
    by_name = [table.assign(gene=table.index, reconstructor=name) for name, table in tables.items()]
    return pd.DataFrame(summary), pd.concat(by_name, ignore_index=True), reconstruction_by_gene(tables)
