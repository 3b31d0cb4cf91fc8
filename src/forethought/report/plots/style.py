"""Colours, markers and matplotlib settings shared by all plots."""

from typing import Any, NamedTuple
from zlib import crc32

import pandas as pd
from matplotlib.patheffects import withStroke

from forethought.report.objectives import BASELINE
from forethought.report.sweep import Sweep

# Okabe & Ito's palette: colour-blind readers can distinguish its colours.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY, YELLOW = "#E69F00", "#CC79A7", "#56B4E9", "#F0E442"
INK, MUTED, PALE, BAND = "#1d1d1f", "#6e6e73", "#d9d9de", "#f2f2f5"

FREE, FORCED = BLUE, VERMILLION
"""Free-running: the model reads its own tokens. Teacher-forced: it reads the true answer."""

VERDICTS = {
    "solved": (GREEN, "o"),
    "shortcut": (VERMILLION, "X"),
    "guessing": (ORANGE, "v"),
    "partial": (PURPLE, "D"),
    "undertrained": (MUTED, "s"),
    "no verdict": (INK, "P"),
}


class Look(NamedTuple):
    """Colour, marker and dashes of a line."""

    color: str
    marker: Any
    linestyle: Any


_PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#7A3E00")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (5, 1.2, 1, 1.2)),
    (0, (5, 1.2, 1, 1.2, 1, 1.2)),
    (0, (9, 2)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8", "H", (4, 1), (6, 1), (3, 1))

_LOOKS = [
    Look(colour, _MARKERS[(7 * family + rank) % len(_MARKERS)], dashes)
    for family, dashes in enumerate(_DASHES)
    for rank, colour in enumerate(_PALETTE)
]

# The order is fixed for good, so that an objective looks the same in every report. New ones are appended.
_OBJECTIVES = (
    "teacherless",
    "token_order",
    "multi_token",
    "next_latent",
    "belief_state",
    "future_summary",
    "myopic",
    "joint_multi_token",
    "masked_diffusion",
    "any_order",
    "register_tokens",
    "plan_tokens",
    "sequential_multi_token",
    "decision_only",
    "best_of_k",
    "policy_gradient",
    "scheduled_sampling",
    "masked_next_token",
    "lookahead_insertion",
    "ranking_into_the_future",
    "full_sequence",
    "n_token_reasoner",
    "mixture",
    "next_token_injection",
    "anchored_multi_token",
    "hierarchical_latent",
    "value_guided",
    "preference",
    "block_diffusion",
    "latent_lookahead",
    "insertion",
    "bag_window",
    "reverse_augmented",
)


def look_of_objective(name: str) -> Look:
    """Return the look of an objective, the same in every report; that of a user's objective by its name."""
    if name == BASELINE:
        return Look(INK, "o", "-")
    known = name in _OBJECTIVES
    return _LOOKS[(_OBJECTIVES.index(name) if known else crc32(name.encode())) % len(_LOOKS)]


def look_of_runs(runs: pd.DataFrame) -> Look:
    """Return the look of the objective that all these runs share."""
    objectives = set(runs["objective"].dropna())
    return look_of_objective(objectives.pop()) if len(objectives) == 1 else Look(BLUE, "o", "-")


def choose_looks(sweep: Sweep, key: str | None) -> dict[Any, Look]:
    """Return the look of each value of a parameter: fixed for objectives, else by the order of the values."""
    if key is None:
        return {}
    levels = sweep.levels(key)
    if key == "objective":
        return {level: look_of_objective(level) for level in levels}
    return {level: _LOOKS[rank % len(_LOOKS)] for rank, level in enumerate(levels)}


WIDTH = 5.0  # inches: half a desktop page, or the full width of a phone

STYLE: dict[str, Any] = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "text.parse_math": False,  # `$` may be a token; it does not start TeX.
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.edgecolor": "#b8b8bf",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": "#b8b8bf",
    "ytick.color": "#b8b8bf",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "hatch.linewidth": 0.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "pdf.fonttype": 42,  # Embed TrueType fonts, so that text in the PDF can be selected.
    "savefig.dpi": 240,
}

HALO = [withStroke(linewidth=2.5, foreground="white")]
"""Path effect that keeps text legible over lines."""
