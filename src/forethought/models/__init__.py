"""Models: one file for each architecture, a plain `nn.Module` from tokens to hidden states."""

from forethought.models.gpt import GPT
from forethought.models.mamba import Mamba
from forethought.models.mamba2 import Mamba2

__all__ = ["GPT", "Mamba", "Mamba2"]
