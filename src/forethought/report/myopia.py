"""Myopia gap: the loss that a model pays if no position may compute anything for later tokens."""

from forethought.report.columns import range_over_seeds
from forethought.report.objectives import BASELINE
from forethought.report.settings import list_conditions
from forethought.report.sweep import Sweep
from forethought.report.wording import count_noun
from forethought.results.frame import format_value

_LOSS = "test/forced_loss"


def describe_myopia_gaps(sweep: Sweep) -> dict[str, str]:
    """Return a sentence for each setting of `myopic` runs that has a counterpart, by the setting's label.

    The counterpart is the setting of `next_token` runs with the same other settings. The gap is the loss of
    the myopic run minus the loss of the `next_token` run with the same seed; median over common seeds.

    Source: Wu et al., "Do language models plan ahead for future tokens?" (2404.00859), §3.
    """
    runs = sweep.finished
    if _LOSS not in runs or "myopic" not in sweep.runs["objective"].array:
        return {}
    shared = list_conditions(runs, sweep.keys, "objective")
    table = runs[["setting", "seed", _LOSS]].join(runs[shared].map(format_value))
    myopic, baseline = (table[runs["objective"] == name] for name in ("myopic", BASELINE))
    pairs = myopic.merge(baseline, on=[*shared, "seed"], suffixes=("", "_of_baseline"))
    pairs["gap"] = pairs[_LOSS] - pairs[f"{_LOSS}_of_baseline"]
    rows = {row["setting"]: row for row in sweep.summary.to_dict("records")}
    sentences = {}
    for (setting, counterpart), group in pairs.dropna(subset="gap").groupby(
        ["setting", "setting_of_baseline"], observed=True
    ):
        gaps = group["gap"]
        accuracy, baseline_accuracy = (
            range_over_seeds(rows[name], "test/accuracy") for name in (setting, counterpart)
        )
        sentences[setting] = (
            f"myopia gap {gaps.median():.3f} nats per token ({gaps.min():.3f} to {gaps.max():.3f} over "
            f"{count_noun(len(gaps), 'seed')}), the loss on the true answer minus the "
            f"loss of next_token; accuracy {accuracy} % against {baseline_accuracy} %"
        )
    return sentences
