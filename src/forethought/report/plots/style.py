"""Colours, markers and matplotlib settings shared by all plots."""

from typing import Any

from matplotlib.patheffects import withStroke

# Okabe & Ito's palette: colour-blind readers can distinguish its colours.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY, YELLOW = "#E69F00", "#CC79A7", "#56B4E9", "#F0E442"
INK, MUTED, PALE, BAND = "#1d1d1f", "#6e6e73", "#d9d9de", "#f2f2f5"

FREE, FORCED = BLUE, VERMILLION
"""Free-running: the model reads its own tokens. Teacher-forced: it reads the true answer."""

LINES = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "D"), (PURPLE, "^"), (ORANGE, "v"), (SKY, "P"), (INK, "X"))
"""Colour and marker of the values of a swept parameter, in order."""

VERDICTS = {
    "solved": (GREEN, "o"),
    "shortcut": (VERMILLION, "X"),
    "partial": (PURPLE, "D"),
    "undertrained": (MUTED, "s"),
    "no verdict": (INK, "P"),
}

WIDTH = 5.0  # inches: half a desktop page, or the full width of a phone

STYLE: dict[str, Any] = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "text.parse_math": False,  # `$` may be a token; it does not start TeX.
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
    "pdf.fonttype": 42,  # Embed TrueType fonts, so that text in the PDF can be selected.
    "savefig.dpi": 240,
}


HALO = [withStroke(linewidth=2.5, foreground="white")]
"""Path effect that keeps text legible over lines."""


def set_percent_ticks(axis: Any) -> None:
    """Set the ticks of an axis of shares: 0, 50 %, 100 %."""
    axis.set_ticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])
