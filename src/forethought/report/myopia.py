"""Myopia gap: the loss that a model pays if no position may compute anything for later tokens."""

from statistics import median

from forethought.report.groups import Group, Sweep
from forethought.report.wording import format_range

_LOSS = "test/forced_loss"


def describe_myopia_gaps(sweep: Sweep) -> dict[str, str]:
    """Return a sentence for each group of `myopic` runs that has a counterpart, by the group's label.

    The counterpart is the group of `next_token` runs with the same other settings. The gap is the loss of
    the myopic run minus the loss of the `next_token` run with the same seed; median over common seeds.

    Source: Wu et al., "Do language models plan ahead for future tokens?" (2404.00859), §3.
    """
    sentences = {}
    baselines = {group.conditions: group for group in sweep.groups if group.objective == "next_token"}
    for group in sweep.groups:
        baseline = baselines.get(group.conditions)
        if group.objective == "myopic" and baseline and (gaps := _compute_gaps(group, baseline)):
            accuracy, baseline_accuracy = (
                format_range(side.collect_values("test/accuracy")) for side in (group, baseline)
            )
            sentences[group.label] = (
                f"myopia gap {median(gaps):.3f} nats per token ({min(gaps):.3f} to {max(gaps):.3f} over "
                f"{len(gaps)} seed{'s' if len(gaps) > 1 else ''}), the loss on the true answer minus the "
                f"loss of next_token; accuracy {accuracy} % against {baseline_accuracy} %"
            )
    return sentences


def _compute_gaps(myopic: Group, baseline: Group) -> list[float]:
    losses = {run.seed: run.metrics[_LOSS] for run in baseline.finished if _LOSS in run.metrics}
    return [
        run.metrics[_LOSS] - losses[run.seed]
        for run in myopic.finished
        if _LOSS in run.metrics and run.seed in losses
    ]
