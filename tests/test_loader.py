"""That composing cells together changes nothing but the time it takes."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import OmegaConf

from forethought.cli.compose import CONFIG_NAME, Composer


def nodes(config, path=""):
    """What stands where, and the flags of each node (`struct`, `readonly`)."""
    found = {path: (config._metadata.flags, OmegaConf.to_container(config, resolve=False))}
    for key, value in config.items_ex(resolve=False):
        if OmegaConf.is_dict(value) and not value._is_none() and not value._is_missing():
            found |= nodes(value, f"{path}.{key}")
    return found


def outcome(load, words):
    try:
        return nodes(load(CONFIG_NAME, [*words, "hydra.mode=MULTIRUN"], RunMode.RUN))
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize(
    "words",
    [
        "seed=1",
        "seed=1 seed=2",
        "experiment=smoke seed=3 model.layers=1",
        "experiment=quickstart task.degree=3 +model.extra=1 ++a.b=2",
        "task=addition task.digits=2 hydra.job.name=x seed=4",
        "hydra/launcher=basic optimizer=muon optimizer.lr=1e-3",
        "model={_target_:a.b}",
        "evaluation={temperature:1.0}",
        "~logger",
        "hydra.searchpath=[file:///tmp] seed=1",
        "seed=1,2",
        "nope=1",
        "~nope",
        "+seed=1",
        "+model=gpt",
        "model@x=gpt",
        "model=nope seed=1",
        "model.layers.x=1",
    ],
)
def test_a_cell_is_composed_as_by_hydra(words):
    words, loader = words.split(), Composer(["-m"]).loader
    alone = outcome(super(type(loader), loader).load_configuration, words)
    outcome(loader.load_configuration, [*words, "max_steps=7"])  # another cell, from which nothing stays
    assert outcome(loader.load_configuration, words) == alone


def test_cells_that_differ_in_values_are_composed_once(monkeypatch):
    """By Hydra: one config for the sweep, and one for each choice of files."""
    composed = []

    def counting(loader, config_name, overrides, *more):
        composed.append(overrides)
        return plain(loader, config_name, overrides, *more)

    plain = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counting)
    words = ["-m", "experiment=smoke", "model=gpt,lstm", "seed=range(20)"]
    assert len({cell.name for cell in Composer(words).cells()}) == 40
    assert len(composed) == 3
