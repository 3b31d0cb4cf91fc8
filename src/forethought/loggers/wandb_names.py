"""Names that W&B accepts."""

import re


def clean(text: str, length: int = 64) -> str:
    """Return a name that W&B and file systems accept: `num_nodes=null` → `num_nodes_null`."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("_")[:length]
