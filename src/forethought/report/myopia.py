"""The myopia gap: what it costs a model that its positions may not prepare anything for later tokens."""

from __future__ import annotations

from statistics import median

from forethought.report.groups import Group, Sweep
from forethought.report.wording import spread

_LOSS = "test/forced_loss"


def myopia_gaps(sweep: Sweep) -> dict[str, str]:
    """For each group of `myopic` runs whose counterpart is there, one sentence, by the group's label.

    The counterpart is the group of `next_token` runs with the same other settings; the gap is the loss of
    the myopic run minus that of the other with the same seed, median over the seeds that both have.

    Source: Wu et al., "Do language models plan ahead for future tokens?" (2404.00859), §3.
    """
    found = {}
    plain = {group.conditions: group for group in sweep.groups if group.objective == "next_token"}
    for group in sweep.groups:
        other = plain.get(group.conditions)
        if group.objective == "myopic" and other is not None and (gaps := _gaps(group, other)):
            found[group.label] = (
                f"myopia gap {median(gaps):.3f} nats a token ({min(gaps):.3f} to {max(gaps):.3f} over "
                f"{len(gaps)} seed{'s' if len(gaps) > 1 else ''}): its loss on the true answer above "
                f"next_token's; "
                f"accuracy {spread(group.values('test/accuracy'))} % against "
                f"{spread(other.values('test/accuracy'))} %"
            )
    return found


def _gaps(myopic: Group, plain: Group) -> list[float]:
    losses = {run.seed: run.metrics[_LOSS] for run in plain.finished if _LOSS in run.metrics}
    return [
        run.metrics[_LOSS] - losses[run.seed]
        for run in myopic.finished
        if _LOSS in run.metrics and run.seed in losses
    ]
