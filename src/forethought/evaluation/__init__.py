"""Evaluation: what a trained model can do, what it does instead, and the verdict."""

from forethought.evaluation.diagnose import diagnose
from forethought.evaluation.examples import show_examples
from forethought.evaluation.grad_flow import grad_flow
from forethought.evaluation.verdict import verdict

__all__ = ["diagnose", "grad_flow", "show_examples", "verdict"]
