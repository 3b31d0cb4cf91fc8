"""W&B's place on disk. W&B itself takes a second to import, and is not needed to find it."""

import os
from pathlib import Path

WANDB_ID_FILE = ".wandb_id"
"""The W&B id of a run, in its folder. Edit the file to choose another id."""


def wandb_folder(folder: Path) -> Path:
    """Return the folder that `wandb leet` shows, for the folder of a sweep or of a single run."""
    return Path(os.environ.get("WANDB_DIR") or folder) / "wandb"


def is_at_wandb(folder: Path) -> bool:
    """Tell whether the run in a folder was logged to W&B; inside an agent, under the id that it gives."""
    path, given = folder / WANDB_ID_FILE, os.environ.get("WANDB_RUN_ID")
    if not path.is_file():
        return False
    return not os.environ.get("WANDB_SWEEP_ID") or path.read_text(encoding="utf-8").strip() == given
