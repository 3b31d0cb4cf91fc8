"""`hydra/launcher=…`, where Hydra looks for launchers; what they do is in `forethought.cli.launchers`."""

from forethought.cli.launchers import PoolLauncher, RayLauncher, SubmititLauncher


class Pool(PoolLauncher):
    pass


class Submitit(SubmititLauncher):
    pass


class Ray(RayLauncher):
    pass
