"""Machines: devices, threads and compilation of a run. Nothing here changes what is computed."""

from forethought.hardware.hardware import Hardware

__all__ = ["Hardware"]
