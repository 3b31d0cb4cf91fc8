"""Values in conf/ equal the defaults of the constructors that they configure."""

import dataclasses
import inspect
import pkgutil

import pytest
from helpers import CONF, choices
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from forethought.optimizers import OptimizerFactory
from forethought.training.settings import EvaluationSettings, Settings

GROUPS = ["task", "model", "objective", "optimizer", "hardware"]


def read_choice(group, name):
    """Return the YAML file of a choice, merged into the files of its group that `defaults` names."""
    config = OmegaConf.load(CONF / group / f"{name}.yaml")
    parents = [parent for parent in config.pop("defaults", []) if parent != "_self_"]
    return OmegaConf.merge(*(read_choice(group, parent) for parent in parents), config)


def defaults_of(target):
    """Return the default of every argument that has one."""
    parameters = inspect.signature(target).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    for field in dataclasses.fields(target) if dataclasses.is_dataclass(target) else ():
        if factory := getattr(field.default, "default_factory", None):  # pydantic's
            defaults[field.name] = factory()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}


# A choice without a `_target_` of its own, such as hardware=cpu, exists to differ from the defaults.
CASES = [
    (group, name)
    for group in GROUPS
    for name in choices(group)
    if "_target_" in OmegaConf.load(CONF / group / f"{name}.yaml")
]


@pytest.mark.parametrize(("group", "name"), CASES, ids=[f"{group}={name}" for group, name in CASES])
def test_yaml_values_are_the_constructors_defaults(group, name):
    values = OmegaConf.to_container(read_choice(group, name), resolve=False)
    target = pkgutil.resolve_name(values.pop("_target_"))
    values.pop("label", None)
    defaults = defaults_of(getattr(target, "for_module", target))
    if group == "optimizer":
        ours = defaults_of(OptimizerFactory)
        defaults |= ours | (ours["options"] if target is ours["kind"] else {})
    assert {key: defaults.get(key, "no default") for key in values} == values


def test_root_values_are_the_defaults_of_the_settings():
    values = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"), resolve=False)
    defaults = {**defaults_of(Settings), "evaluation": dataclasses.asdict(EvaluationSettings())}
    assert {key: values[key] for key in defaults} == defaults
    assert values["trainer"] == {"accumulate_grad_batches": Trainer().accumulate_grad_batches}
