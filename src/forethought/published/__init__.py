"""Published numbers as data: a YAML file for each paper, and the settings of the experiments beside them."""

from forethought.published.load import load_papers
from forethought.published.protocol import Values, accepts, read_protocol, same_value
from forethought.published.schema import SOLVE_RATE, Paper, PublishedCell, PublishedTable

__all__ = [
    "SOLVE_RATE",
    "Paper",
    "PublishedCell",
    "PublishedTable",
    "Values",
    "accepts",
    "load_papers",
    "read_protocol",
    "same_value",
]
