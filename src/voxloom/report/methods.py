"""A methods paragraph for a paper, from the analysis alone: what was done, in which order, after whom."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from voxloom.io.bids.derivatives import software_versions
from voxloom.report.blocks import Text
from voxloom.report.references import REFERENCES
from voxloom.spec.contrast_rows import row_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from voxloom.spec import Contrast, FirstLevel, GroupModel, Inference
    from voxloom.spec.statistics import Statistic

#: ``[key]`` or ``[key, key]`` in a sentence stands for papers.
CITED = re.compile(r"\[([a-z0-9, -]+)\]")
BASES = {
    "spm": "SPM's canonical haemodynamic response [friston-1998]",
    "glover": "Glover's haemodynamic response [glover]",
    "fir": "finite impulse responses",
}
NOISE = {
    "ols": "The model was fitted by ordinary least squares.",
    "ar1": "Serial correlation was modelled as AR(1) [worsley] with a coefficient for each voxel, estimated by "
    "restricted maximum likelihood; variances and degrees of freedom were corrected after Kenward and Roger "
    "[kenward-roger].",
    "ar1-yule-walker": "Serial correlation was modelled as AR(1) [worsley], its coefficient estimated from the "
    "residuals of each voxel by the Yule-Walker equations and rounded to hundredths.",
    "arma11": "Serial correlation was modelled as ARMA(1, 1) with parameters for each voxel, estimated by restricted "
    "maximum likelihood with Jeffreys' prior; variances and degrees of freedom were corrected after Kenward and Roger "
    "[kenward-roger].",
}
ESTIMATORS = {
    "ols": "ordinary least squares",
    "unequal-variances": "least squares with a variance for each group (Welch's and Johansen's tests)",
    "random-intercept": "restricted maximum likelihood with a random intercept for each group [kenward-roger]",
    "fixed": "weights of the inverse variances of the maps (fixed effects)",
    "reml": "weights of the inverse of the maps' variances plus one between subjects, estimated by restricted maximum "
    "likelihood",
    "paule-mandel": "weights of the inverse of the maps' variances plus one between subjects, estimated by Paule and "
    "Mandel's method",
}
STATISTICS = {
    "max_stat": "the voxelwise statistic",
    "cluster_size": "the extent of clusters [hayasaka]",
    "cluster_mass": "the mass of clusters [bullmore]",
    "tfce": "threshold-free cluster enhancement [tfce]",
}
NUISANCE = {
    "freedman-lane": "the method of Freedman and Lane [freedman-lane]",
    "dekker": "Dekker's method",
    "ter-braak": "ter Braak's method",
    "manly": "Manly's method",
    "huh-jhun": "the method of Huh and Jhun",
}
REARRANGED = {
    "flip": "sign flips",
    "permute": "permutations",
    "both": "permutations with sign flips",
    "given": "rearrangements from a file",
}


def methods(sentences: Sequence[str]) -> list[Text]:
    """The paragraph, and the list of the papers that it cites, in their alphabetical order."""
    text = " ".join(sentences)
    keys = {key for found in CITED.findall(text) for key in found.split(", ")}
    papers = sorted((REFERENCES[key] for key in keys), key=lambda paper: paper.entry)
    return [
        Text(paragraphs=[CITED.sub(_names, text)], role="paper"),
        Text(paragraphs=[str(paper) for paper in papers], role="reference"),
    ]


def _names(found: re.Match[str]) -> str:
    return "(" + "; ".join(REFERENCES[key].cite for key in found[1].split(", ")) + ")"


def software() -> str:
    """Sentence on the software, with its versions."""
    found = software_versions()
    return (
        f"Analyses were run with voxloom {found['voxloom']} (Python {found['python']}) on NumPy {found['numpy']} "
        f"[numpy], SciPy {found['scipy']} [scipy], and Dask {found['dask']} [dask]."
    )


def first_level(level: FirstLevel, *, is_preprocessed: bool, n_runs: int | None = None) -> Iterator[str]:
    """Sentences on the model of a run."""
    yield (
        "Preprocessed images were those of the BIDS derivative fmriprep [bids, fmriprep]."
        if is_preprocessed
        else "Images were read from a BIDS data set [bids]."
    )
    if level.smoothing_fwhm:
        yield f"Every volume was smoothed with a Gaussian kernel of {level.smoothing_fwhm:g} mm FWHM within the brain."
    runs = "every run" if n_runs is None else f"each of {n_runs} runs" if n_runs > 1 else "the run"
    yield f"A general linear model [friston-1994] was fitted to {runs} at every voxel."
    yield response(level)
    yield drift(level)
    if not level.confounds.empty:
        yield f"Nuisance regressors were {confounds(level)}."
    if level.signal_scaling == 0:
        yield "The signal of each voxel was scaled to percent of its mean over time."
    yield NOISE.get(level.noise_model) or (
        f"Serial correlation was modelled as AR({level.noise_model.removeprefix('ar')}) [worsley] with coefficients "
        "for each voxel, estimated by restricted maximum likelihood; variances and degrees of freedom were corrected "
        "after Kenward and Roger [kenward-roger]."
    )
    if level.noise_smoothing_fwhm:
        yield (
            f"Parameters of the noise were smoothed with a kernel of {level.noise_smoothing_fwhm:g} mm FWHM, and the "
            "model fitted again with them."
        )


def response(level: FirstLevel) -> str:
    """Sentence on the regressors of the task."""
    if level.hrf_model is None:
        return "Events entered as boxcars, not convolved."
    base, *more = level.hrf_model.split(" + ")
    with_ = {0: "", 1: " and its derivative in time", 2: " and its derivatives in time and dispersion"}[len(more)]
    delays = f" at delays of {', '.join(map(str, level.fir_delays))} volumes" if base == "fir" else ""
    return f"Events were convolved with {BASES[base]}{with_}{delays}."


def drift(level: FirstLevel) -> str:
    """Sentence on slow drift."""
    if level.drift_model == "cosine":
        return (
            f"Slow drift was modelled by discrete cosines up to {level.high_pass:g} Hz (periods longer than "
            f"{1 / level.high_pass:.0f} s)."
        )
    if level.drift_model == "polynomial":
        return f"Slow drift was modelled by polynomials up to order {level.drift_order}."
    return "No drift terms were added."


def confounds(level: FirstLevel) -> str:
    """What of the confounds was taken."""
    wanted = level.confounds
    strategy = [f"those of the strategy {' + '.join(wanted.strategy)}"] if wanted.strategy else []
    scrubbed = (
        [f"volumes beyond {wanted.fd_threshold:g} mm framewise displacement were left out of the model"]
        if "scrub" in wanted.strategy
        else []
    )
    columns = [f"the columns {', '.join(wanted.columns)} of the confounds table"] if wanted.columns else []
    return "; ".join([*strategy, *columns, *scrubbed])


def contrasts(wanted: Mapping[str, Contrast], *, n_runs: int, precision_weighted: bool) -> Iterator[str]:
    """Sentences on contrasts and fixed effects."""
    told = "; ".join(
        f"{_defined(name, ', '.join(row_texts(one.expression)))} ({one.stat_type})" for name, one in wanted.items()
    )
    yield f"Contrasts were {told}."
    if any(one.stat_type == "conjunction" for one in wanted.values()):
        yield "Conjunctions are the smallest z of their contrasts, tested against the conjunction null [nichols-2005]."
    if n_runs > 1:
        weights = "weighted by the inverse of their variances" if precision_weighted else "weighted equally"
        yield f"Runs of a subject were combined as fixed effects, {weights}."


def _defined(name: str, text: str) -> str:
    return name if name == text else f"{name} = {text}"


def group_level(model: GroupModel, n_subjects: int, *, schemes: Iterable[str], has_nuisance: bool) -> Iterator[str]:
    """Sentences on a group model and its inference; `schemes` say how the permutation tests rearranged the maps."""
    terms = model.formula or " + ".join(["1", *(model.covariates or ())])
    how = ESTIMATORS.get(model.estimator, "least squares with sandwich covariances [guillaume]")
    of = "of their mean" if terms == "1" else f"with the terms {terms}"
    yield f"Maps of {n_subjects} subjects entered a group model {of}, fitted by {how}."
    yield f"Group contrasts were {'; '.join(_defined(name, one.text) for name, one in model.contrasts.items())}."
    made = " or ".join(REARRANGED[scheme] for scheme in sorted(schemes))
    yield from inference(model.inference, made, has_nuisance=has_nuisance)


def inference(wanted: Inference, made: str, *, has_nuisance: bool) -> Iterator[str]:
    """Sentences on multiple comparisons."""
    sides = "two-sided" if wanted.two_sided else "one-sided"
    if "permutation" in wanted.method:
        yield from permutation(wanted, sides, made)
        if has_nuisance:
            yield f"Nuisance variables were handled by {NUISANCE[wanted.nuisance]}."
    if "fdr" in wanted.method:
        yield f"The false discovery rate over voxels was controlled as well, {sides} [fdr]."
    if "bonferroni" in wanted.method:
        yield f"P-values with Bonferroni's correction over voxels are reported too, {sides}."


def permutation(wanted: Inference, sides: str, made: str) -> Iterator[str]:
    """Sentences on the permutation test."""
    told = " and of ".join(STATISTICS[one.name] + parameters(one) for one in wanted.statistics)
    yield (
        f"The family-wise error rate over the brain was controlled at {wanted.alpha:g} ({sides}) by the null "
        f"distribution of the maximum of {told}, from {wanted.n_perm:,} {made} [nichols-2002, winkler-2014], with the "
        "observed order among them [phipson]."
    )
    if wanted.blocks is not None or wanted.variance_groups is not None:
        yield "Exchangeability was restricted by blocks or variance groups [winkler-2015]."
    if wanted.tail is not None:
        kind = {"gpd": "a generalised Pareto", "gamma": "a gamma"}[wanted.tail]
        yield f"Small p come from {kind} distribution fitted to the null [winkler-2016]."


def parameters(one: Statistic) -> str:
    """Parameters of a statistic, in words."""
    if one.name == "tfce":
        return f" (E = {one.E:g}, H = {one.H:g}, {one.connectivity} neighbours)"  # type: ignore[attr-defined]
    if one.name.startswith("cluster"):
        return f" (formed at p < {one.threshold:g}, {one.connectivity} neighbours)"  # type: ignore[attr-defined]
    return ""
