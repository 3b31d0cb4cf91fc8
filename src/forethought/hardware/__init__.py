"""Machines: devices, threads and compilation of a run. Nothing here changes what is computed."""

from forethought.hardware.hardware import Hardware
from forethought.hardware.threads import POOL_SHARE, available_cores, fastest_threads

__all__ = ["POOL_SHARE", "Hardware", "available_cores", "fastest_threads"]
