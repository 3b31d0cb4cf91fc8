"""What all plots share: colours, type, and the words for a verdict."""

from __future__ import annotations

from typing import Any

from matplotlib.patheffects import withStroke

# Okabe & Ito: distinct for colour-blind readers too.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY, YELLOW = "#E69F00", "#CC79A7", "#56B4E9", "#F0E442"
INK, MUTED, PALE, BAND = "#1d1d1f", "#6e6e73", "#d9d9de", "#f2f2f5"

FREE, FORCED = BLUE, VERMILLION
"""The model reads its own tokens; the model reads the true answer."""

LINES = (
    (BLUE, "o"),
    (VERMILLION, "s"),
    (GREEN, "D"),
    (PURPLE, "^"),
    (ORANGE, "v"),
    (SKY, "P"),
    (INK, "X"),
)
"""Colour and marker of the values of a swept parameter, in order."""

# Shapes as well as colours.
VERDICTS = {
    "solved": (GREEN, "o"),
    "shortcut": (VERMILLION, "X"),
    "partial": (PURPLE, "D"),
    "undertrained": (MUTED, "s"),
    "no verdict": (INK, "P"),
}

WIDTH = 5.0  # inches: a column on a desk, the full width of a phone
DPI = 240

STYLE: dict[str, Any] = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "text.parse_math": False,  # `$` is a token, not TeX
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": PALE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": DPI,
}


HALO = [withStroke(linewidth=2.5, foreground="white")]
"""Keeps words readable across lines."""


def percent_axis(axis: Any) -> None:
    """Ticks for shares: 0, 50 %, 100 %."""
    axis.set_ticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])
