"""The configuration: read once, checked as a whole, then immutable.

`load` and its siblings return a `Configuration` or raise `ConfigInvalid` with every problem at once. Only the
providers that the configuration names are imported.
"""

from keystead.config.load import lint_text, load, load_text, read_file, single
from keystead.config.models import Configuration, EndpointConfig, MemberConfig
from keystead.config.problems import ConfigInvalid, Problem

__all__ = [
    "ConfigInvalid",
    "Configuration",
    "EndpointConfig",
    "MemberConfig",
    "Problem",
    "lint_text",
    "load",
    "load_text",
    "read_file",
    "single",
]
