"""`hydra/launcher=pool`, where Hydra looks for launchers; what it does is in `forethought.cli.pool`."""

from hydra.core.config_store import ConfigStore

from forethought.cli.pool import POOL, PoolLauncher


class Pool(PoolLauncher):
    pass


ConfigStore.instance().store(
    group="hydra/launcher",
    name="pool",
    node={"_target_": POOL, "workers": None, "stop_after": None},
    provider="forethought",
)
