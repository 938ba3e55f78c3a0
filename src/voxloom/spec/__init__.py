"""An analysis as data: what its file may say, how it is read, and the digests that name results."""

from __future__ import annotations

from voxloom.spec.analysis import Analysis, json_schema, schema_text
from voxloom.spec.confounds import Confounds
from voxloom.spec.contrasts import Contrast
from voxloom.spec.data import MASK_RULES, Data, Output, Store, Template
from voxloom.spec.digests import digest
from voxloom.spec.entities import short_name
from voxloom.spec.files import load_analysis, parse_analysis, parse_confounds
from voxloom.spec.first_level import FirstLevel, FixedEffects, SubjectLevel
from voxloom.spec.group import GroupModel, Inference
from voxloom.spec.group_analysis import GroupAnalysis
from voxloom.spec.labels import bids_label, require_distinct_labels
from voxloom.spec.maps import GivenMaps, MapsAnalysis, SumsAnalysis, parse_maps_analysis, parse_sums_analysis
from voxloom.spec.statistics import (
    TFCE,
    ClusterMass,
    ClusterSize,
    MaxStat,
    Statistic,
    Statistics,
    as_statistics,
    by_result_name,
)
from voxloom.spec.values import parse_bytes

__all__ = [
    "MASK_RULES",
    "TFCE",
    "Analysis",
    "ClusterMass",
    "ClusterSize",
    "Confounds",
    "Contrast",
    "Data",
    "FirstLevel",
    "FixedEffects",
    "GivenMaps",
    "GroupAnalysis",
    "GroupModel",
    "Inference",
    "MapsAnalysis",
    "MaxStat",
    "Output",
    "Statistic",
    "Statistics",
    "Store",
    "SubjectLevel",
    "SumsAnalysis",
    "Template",
    "as_statistics",
    "bids_label",
    "by_result_name",
    "digest",
    "json_schema",
    "load_analysis",
    "parse_analysis",
    "parse_bytes",
    "parse_confounds",
    "parse_maps_analysis",
    "parse_sums_analysis",
    "require_distinct_labels",
    "schema_text",
    "short_name",
]
