"""Evaluation: decodings, metrics, error anatomy, the Clever Hans test, the inside of a model, the verdict."""

from forethought.evaluation.attention import attention_at_decision
from forethought.evaluation.decoding import GREEDY, Decoding
from forethought.evaluation.diagnose import Diagnosis, diagnose
from forethought.evaluation.examples import EXAMPLES, show_examples
from forethought.evaluation.grad_flow import grad_flow
from forethought.evaluation.gradient_split import gradient_split
from forethought.evaluation.probes import name_probes, probe_answers
from forethought.evaluation.rounding import round_table
from forethought.evaluation.verdict import verdict

__all__ = [
    "EXAMPLES",
    "GREEDY",
    "Decoding",
    "Diagnosis",
    "attention_at_decision",
    "diagnose",
    "grad_flow",
    "gradient_split",
    "name_probes",
    "probe_answers",
    "round_table",
    "show_examples",
    "verdict",
]
