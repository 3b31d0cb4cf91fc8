"""Evaluation: decodings, metrics, error anatomy, the Clever Hans test, gradient reach and the verdict."""

from forethought.evaluation.decoding import GREEDY, Decoding
from forethought.evaluation.diagnose import Diagnosis, diagnose
from forethought.evaluation.examples import EXAMPLES, show_examples
from forethought.evaluation.grad_flow import grad_flow
from forethought.evaluation.verdict import verdict

__all__ = [
    "EXAMPLES",
    "GREEDY",
    "Decoding",
    "Diagnosis",
    "diagnose",
    "grad_flow",
    "show_examples",
    "verdict",
]
