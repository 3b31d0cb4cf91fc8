"""Models: one file for each architecture, an `nn.Module` from tokens to hidden states."""

from forethought.models.base import Model, OutputLayer
from forethought.models.gpt import GPT
from forethought.models.infini_gpt import InfiniGPT
from forethought.models.looped_gpt import LoopedGPT
from forethought.models.lstm import LSTM
from forethought.models.mamba import Mamba
from forethought.models.mamba2 import Mamba2
from forethought.models.pretrained import Pretrained

__all__ = ["GPT", "LSTM", "InfiniGPT", "LoopedGPT", "Mamba", "Mamba2", "Model", "OutputLayer", "Pretrained"]
