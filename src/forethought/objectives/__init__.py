"""Objectives: one file for each. An objective owns input layout, loss and decoding around a model."""

from forethought.objectives.anchored_multi_token import AnchoredMultiToken
from forethought.objectives.any_order import AnyOrder
from forethought.objectives.bag_window import BagWindow
from forethought.objectives.base import Objective
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.best_of_k import BestOfK
from forethought.objectives.block_diffusion import BlockDiffusion
from forethought.objectives.decision_only import DecisionOnly
from forethought.objectives.full_sequence import FullSequence
from forethought.objectives.future_summary import FutureSummary
from forethought.objectives.hierarchical_latent import HierarchicalLatent
from forethought.objectives.insertion import Insertion
from forethought.objectives.joint_multi_token import JointMultiToken
from forethought.objectives.latent_lookahead import LatentLookahead
from forethought.objectives.lookahead_insertion import LookaheadInsertion
from forethought.objectives.masked_diffusion import MaskedDiffusion
from forethought.objectives.masked_next_token import MaskedNextToken
from forethought.objectives.mixture import Mixture
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.myopic import Myopic
from forethought.objectives.n_token_reasoner import NTokenReasoner
from forethought.objectives.next_latent import NextLatent
from forethought.objectives.next_token import NextToken
from forethought.objectives.next_token_injection import NextTokenInjection
from forethought.objectives.plan_tokens import PlanTokens
from forethought.objectives.policy_gradient import PolicyGradient
from forethought.objectives.preference import Preference
from forethought.objectives.ranking_into_the_future import RankingIntoTheFuture
from forethought.objectives.register_tokens import RegisterTokens
from forethought.objectives.reverse_augmented import ReverseAugmented
from forethought.objectives.scheduled_sampling import ScheduledSampling
from forethought.objectives.sequential_multi_token import SequentialMultiToken
from forethought.objectives.teacherless import Teacherless
from forethought.objectives.token_order import TokenOrder
from forethought.objectives.value_guided import ValueGuided

__all__ = [
    "AnchoredMultiToken",
    "AnyOrder",
    "BagWindow",
    "BeliefState",
    "BestOfK",
    "BlockDiffusion",
    "DecisionOnly",
    "FullSequence",
    "FutureSummary",
    "HierarchicalLatent",
    "Insertion",
    "JointMultiToken",
    "LatentLookahead",
    "LookaheadInsertion",
    "MaskedDiffusion",
    "MaskedNextToken",
    "Mixture",
    "MultiToken",
    "Myopic",
    "NTokenReasoner",
    "NextLatent",
    "NextToken",
    "NextTokenInjection",
    "Objective",
    "PlanTokens",
    "PolicyGradient",
    "Preference",
    "RankingIntoTheFuture",
    "RegisterTokens",
    "ReverseAugmented",
    "ScheduledSampling",
    "SequentialMultiToken",
    "Teacherless",
    "TokenOrder",
    "ValueGuided",
]
