"""Objectives: one file for each. An objective owns input layout, loss and decoding around a model."""

from forethought.objectives.any_order import AnyOrder
from forethought.objectives.bag_window import BagWindow
from forethought.objectives.base import Objective
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.best_of_k import BestOfK
from forethought.objectives.decision_only import DecisionOnly
from forethought.objectives.full_sequence import FullSequence
from forethought.objectives.future_summary import FutureSummary
from forethought.objectives.insertion import Insertion
from forethought.objectives.joint_multi_token import JointMultiToken
from forethought.objectives.lookahead_insertion import LookaheadInsertion
from forethought.objectives.masked_diffusion import MaskedDiffusion
from forethought.objectives.masked_next_token import MaskedNextToken
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.myopic import Myopic
from forethought.objectives.n_token_reasoner import NTokenReasoner
from forethought.objectives.next_latent import NextLatent
from forethought.objectives.next_token import NextToken
from forethought.objectives.plan_tokens import PlanTokens
from forethought.objectives.policy_gradient import PolicyGradient
from forethought.objectives.ranking_into_the_future import RankingIntoTheFuture
from forethought.objectives.register_tokens import RegisterTokens
from forethought.objectives.reverse_augmented import ReverseAugmented
from forethought.objectives.scheduled_sampling import ScheduledSampling
from forethought.objectives.sequential_multi_token import SequentialMultiToken
from forethought.objectives.teacherless import Teacherless
from forethought.objectives.token_order import TokenOrder

__all__ = [
    "AnyOrder",
    "BagWindow",
    "BeliefState",
    "BestOfK",
    "DecisionOnly",
    "FullSequence",
    "FutureSummary",
    "Insertion",
    "JointMultiToken",
    "LookaheadInsertion",
    "MaskedDiffusion",
    "MaskedNextToken",
    "MultiToken",
    "Myopic",
    "NTokenReasoner",
    "NextLatent",
    "NextToken",
    "Objective",
    "PlanTokens",
    "PolicyGradient",
    "RankingIntoTheFuture",
    "RegisterTokens",
    "ReverseAugmented",
    "ScheduledSampling",
    "SequentialMultiToken",
    "Teacherless",
    "TokenOrder",
]
