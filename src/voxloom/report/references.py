"""The papers that a methods paragraph cites."""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """One paper: how text names it, and its entry in the list."""

    cite: str
    entry: str
    doi: str

    def __str__(self) -> str:
        return f"{self.entry} https://doi.org/{self.doi}"


REFERENCES = {
    "bids": Reference(
        "Gorgolewski et al., 2016",
        "Gorgolewski KJ et al. (2016). The brain imaging data structure, a format for organizing and describing "
        "outputs of neuroimaging experiments. Scientific Data 3:160044.",
        "10.1038/sdata.2016.44",
    ),
    "bullmore": Reference(
        "Bullmore et al., 1999",
        "Bullmore ET et al. (1999). Global, voxel, and cluster tests, by theory and permutation, for a difference "
        "between two groups of structural MR images of the brain. IEEE Transactions on Medical Imaging 18:32-42.",
        "10.1109/42.750253",
    ),
    "dask": Reference(
        "Rocklin, 2015",
        "Rocklin M (2015). Dask: parallel computation with blocked algorithms and task scheduling. Proceedings of the "
        "14th Python in Science Conference, 126-132.",
        "10.25080/Majora-7b98e3ed-013",
    ),
    "fdr": Reference(
        "Benjamini and Hochberg, 1995",
        "Benjamini Y, Hochberg Y (1995). Controlling the false discovery rate: a practical and powerful approach to "
        "multiple testing. Journal of the Royal Statistical Society B 57:289-300.",
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
    "fmriprep": Reference(
        "Esteban et al., 2019",
        "Esteban O et al. (2019). fMRIPrep: a robust preprocessing pipeline for functional MRI. Nature Methods "
        "16:111-116.",
        "10.1038/s41592-018-0235-4",
    ),
    "freedman-lane": Reference(
        "Freedman and Lane, 1983",
        "Freedman D, Lane D (1983). A nonstochastic interpretation of reported significance levels. Journal of "
        "Business and Economic Statistics 1:292-298.",
        "10.1080/07350015.1983.10509354",
    ),
    "friston-1994": Reference(
        "Friston et al., 1994",
        "Friston KJ et al. (1994). Statistical parametric maps in functional imaging: a general linear approach. Human "
        "Brain Mapping 2:189-210.",
        "10.1002/hbm.460020402",
    ),
    "friston-1998": Reference(
        "Friston et al., 1998",
        "Friston KJ et al. (1998). Event-related fMRI: characterizing differential responses. NeuroImage 7:30-40.",
        "10.1006/nimg.1997.0306",
    ),
    "glover": Reference(
        "Glover, 1999",
        "Glover GH (1999). Deconvolution of impulse response in event-related BOLD fMRI. NeuroImage 9:416-429.",
        "10.1006/nimg.1998.0419",
    ),
    "guillaume": Reference(
        "Guillaume et al., 2014",
        "Guillaume B et al. (2014). Fast and accurate modelling of longitudinal and repeated measures neuroimaging "
        "data. NeuroImage 94:287-302.",
        "10.1016/j.neuroimage.2014.03.029",
    ),
    "hayasaka": Reference(
        "Hayasaka and Nichols, 2003",
        "Hayasaka S, Nichols TE (2003). Validating cluster size inference: random field and permutation methods. "
        "NeuroImage 20:2343-2356.",
        "10.1016/j.neuroimage.2003.08.003",
    ),
    "kenward-roger": Reference(
        "Kenward and Roger, 1997",
        "Kenward MG, Roger JH (1997). Small sample inference for fixed effects from restricted maximum likelihood. "
        "Biometrics 53:983-997.",
        "10.2307/2533558",
    ),
    "nichols-2002": Reference(
        "Nichols and Holmes, 2002",
        "Nichols TE, Holmes AP (2002). Nonparametric permutation tests for functional neuroimaging: a primer with "
        "examples. Human Brain Mapping 15:1-25.",
        "10.1002/hbm.1058",
    ),
    "nichols-2005": Reference(
        "Nichols et al., 2005",
        "Nichols T et al. (2005). Valid conjunction inference with the minimum statistic. NeuroImage 25:653-660.",
        "10.1016/j.neuroimage.2004.12.005",
    ),
    "numpy": Reference(
        "Harris et al., 2020",
        "Harris CR et al. (2020). Array programming with NumPy. Nature 585:357-362.",
        "10.1038/s41586-020-2649-2",
    ),
    "phipson": Reference(
        "Phipson and Smyth, 2010",
        "Phipson B, Smyth GK (2010). Permutation P-values should never be zero: calculating exact P-values when "
        "permutations are randomly drawn. Statistical Applications in Genetics and Molecular Biology 9:39.",
        "10.2202/1544-6115.1585",
    ),
    "scipy": Reference(
        "Virtanen et al., 2020",
        "Virtanen P et al. (2020). SciPy 1.0: fundamental algorithms for scientific computing in Python. Nature "
        "Methods 17:261-272.",
        "10.1038/s41592-019-0686-2",
    ),
    "tfce": Reference(
        "Smith and Nichols, 2009",
        "Smith SM, Nichols TE (2009). Threshold-free cluster enhancement: addressing problems of smoothing, threshold "
        "dependence and localisation in cluster inference. NeuroImage 44:83-98.",
        "10.1016/j.neuroimage.2008.03.061",
    ),
    "winkler-2014": Reference(
        "Winkler et al., 2014",
        "Winkler AM et al. (2014). Permutation inference for the general linear model. NeuroImage 92:381-397.",
        "10.1016/j.neuroimage.2014.01.060",
    ),
    "winkler-2015": Reference(
        "Winkler et al., 2015",
        "Winkler AM et al. (2015). Multi-level block permutation. NeuroImage 123:253-268.",
        "10.1016/j.neuroimage.2015.05.092",
    ),
    "winkler-2016": Reference(
        "Winkler et al., 2016",
        "Winkler AM et al. (2016). Faster permutation inference in brain imaging. NeuroImage 141:502-516.",
        "10.1016/j.neuroimage.2016.05.068",
    ),
    "worsley": Reference(
        "Worsley et al., 2002",
        "Worsley KJ et al. (2002). A general statistical analysis for fMRI data. NeuroImage 15:1-15.",
        "10.1006/nimg.2001.0933",
    ),
}
