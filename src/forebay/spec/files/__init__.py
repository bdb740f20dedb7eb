"""What all files that users write have in common: YAML, units, strict models, errors."""

from forebay.spec.files.closest_words import as_fault, is_unknown_key, kind_of
from forebay.spec.files.one_of import OneOf
from forebay.spec.files.problems import (
    Fault,
    Problem,
    SpecError,
    as_validation_error,
    did_you_mean,
    refusal,
)
from forebay.spec.files.rate_units import Rate, Share, format_rate, parse_rate, parse_share
from forebay.spec.files.reading import at_value, problem_of, read_model, read_text
from forebay.spec.files.strict import Strict
from forebay.spec.files.units import (
    GIB,
    MIB,
    Bytes,
    Seconds,
    format_bytes,
    format_seconds,
    parse_seconds,
    show_bytes,
)
from forebay.spec.files.yaml_tree import Tree, compose, parse

__all__ = [
    "GIB",
    "MIB",
    "Bytes",
    "Fault",
    "OneOf",
    "Problem",
    "Rate",
    "Seconds",
    "Share",
    "SpecError",
    "Strict",
    "Tree",
    "as_fault",
    "as_validation_error",
    "at_value",
    "compose",
    "did_you_mean",
    "format_bytes",
    "format_rate",
    "format_seconds",
    "is_unknown_key",
    "kind_of",
    "parse",
    "parse_rate",
    "parse_seconds",
    "parse_share",
    "problem_of",
    "read_model",
    "read_text",
    "refusal",
    "show_bytes",
]
