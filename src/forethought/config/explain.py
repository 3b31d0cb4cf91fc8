"""Messages of Hydra as one line that names the key, the value and the accepted set."""

import re

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from forethought.config_folder import list_choices
from forethought.errors import InputError, expected_one_of

HIDDEN = ("_target_", "_convert_", "label", "hydra")
"""Keys that are not offered in messages."""

NO_PACKAGE = "its keys are not those of the root; begin the file with the line `# @package _global_`"

_SEVERAL = r"\1: several values; use one, or -m for a sweep over them"

# What Hydra 1.3 says, and what we say instead.
_WORDINGS = {
    r"Ambiguous value for argument '(.*)'": _SEVERAL,
    r"Sweep parameters '(.*)' requires --multirun": _SEVERAL,
    r"Could not append to config. An item is already at '(.*)'.": r"+\1: exists already; use \1=… without +",
    r"Could not delete from config. '(.*)' does not exist.": r"~\1: no such key",
    r"Multiple values for (\S+?)\. .*": r"+\1: is chosen already; use \1=CHOICE without +, or in a file "
    r"`- override /\1: CHOICE`",
    r"In 'experiment/(\S+)': Could not override '\S+@experiment\..*": rf"experiment=\1: {NO_PACKAGE}",
    r"In '(\S+)/(\S+)': Could not override '\1/(\w+)[@'].*": r"\1=\2: \3: no such group in \1; use "
    r"`- override /\3: CHOICE`",
    r"Could not override '(\S*)'\..*": r"\1: no such group; expected GROUP=CHOICE",
    r".*Missing mandatory value: (\S+)": r"\1=???: missing; use \1=VALUE",
}


def explain_hydra(error: Exception) -> InputError:
    """Return an exception of Hydra or OmegaConf as one line.

    Args:
        error: raised while a config was composed.
    """
    if isinstance(error, OverrideParseException):
        word = error.override if error.override.strip() else repr(error.override)
        return InputError(f"{word}: cannot be read; expected KEY=VALUE")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if not group:
            return InputError(f"defaults: {choice}: no such file; use one in conf or --config-dir")
        outer, _, inner = group.rpartition("/")
        of_paper = outer == "experiment" and inner not in list_choices()  # as in top2025/table5
        if outer not in ("", "hydra") and not error.options and not of_paper:
            return InputError(f"{group}={choice}: no such group; use `- override /{inner}: {choice}`")
        options = error.options or ()
        if of_paper:
            group, choice, options = outer, f"{inner}/{choice}", list_choices()["experiment"]
        return InputError(f"{group}={choice}: no such choice; {expected_one_of(options, choice)}")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        parent, _, key = (cause.full_key or str(cause.key)).rpartition(".")
        siblings = [str(name) for name in (cause.parent_node or ()) if name not in HIDDEN]
        path = ".".join(filter(None, [parent, key]))
        return InputError(f"{path}: no such key; {expected_one_of(siblings, key)}")
    said = (str(error) or str(cause)).partition("\n")[0]
    for pattern, wording in _WORDINGS.items():
        if re.fullmatch(pattern, said):
            return InputError(re.sub(pattern, wording, said))
    if cause is not error:  # the override is named by the one, what is wrong with it by the other
        said = f"{said.removeprefix('Error merging override ')}: {str(cause).splitlines()[0]}"
    elif isinstance(cause, OmegaConfBaseException) and cause.full_key:
        said = f"{cause.full_key}: {said}; expected a value that can be resolved"
    return InputError(said.rstrip(". "))
