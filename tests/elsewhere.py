"""An accelerator for machines that have none: a device with the CPU's arithmetic and CUDA's rules.

Its tensors cannot be mixed with the CPU's, and every device sync is noted. It does not show speed, autocast,
several streams, or CUDA's own kernels.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from forethought.hardware import Hardware

aten = torch.ops.aten


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self):
        return [torch.bfloat16]

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


backend_registration._setup_privateuseone_for_python_backend("elsewhere", _Backend())
DEVICE = torch.device("elsewhere", 0)


class There(torch.Tensor):
    """A tensor of the device; `here` holds its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(
            cls, here.size(), dtype=here.dtype, device=DEVICE, **layout
        )

    def __init__(self, here):
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, kernel, types, args=(), kwargs=None):
        raise RuntimeError(f"{kernel}: outside `Elsewhere`")

    def tolist(self):
        return self.to("cpu").tolist()

    def __reduce_ex__(self, protocol):
        return self.here.detach().clone().__reduce_ex__(protocol)  # checkpoints are loaded to the CPU

    def __format__(self, spec):
        return format(self.item(), spec)

    def __repr__(self):
        return f"There({self.here})"


class Elsewhere(TorchDispatchMode):
    """Computes on the device.

    Raises (in the kernel that does it):
        RuntimeError: tensors of the device are mixed with tensors of the CPU.
    """

    def __init__(self):
        super().__init__()
        self.waits = []
        """Kernels for which a host would have to wait for a real device."""

    def __enter__(self):
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # otherwise torch.tensor(…, device=…) bypasses this mode
        self._threads = torch.autograd.set_multithreading_enabled(False)  # modes are local to a thread
        self._threads.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._threads.__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._lifted)

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = There in types
        asked = kwargs.get("device")
        stays = there if asked is None else torch.device(asked).type == DEVICE.type
        if not (there or stays):
            return kernel(*args, **kwargs)
        flat, form = tree_flatten((args, kwargs))
        strays = [value for value in flat if isinstance(value, torch.Tensor) and not isinstance(value, There)]
        copies = kernel in (aten._to_copy.default, aten.copy_.default)
        if not copies and there and any(tensor.ndim for tensor in strays):
            raise RuntimeError(f"{kernel}: {DEVICE} meets cpu")
        if _reads(kernel, args) or (copies and (strays or not stays)):
            self.waits.append(str(kernel))
        own_args, own_kwargs = tree_unflatten([_here(value) for value in flat], form)
        with torch.inference_mode(False):  # so that a view of a plain tensor is a plain one
            out = kernel(*own_args, **own_kwargs)
            if not stays:
                return out
            wrapped = tree_map_only(torch.Tensor, There, out)
            return return_and_correct_aliasing(kernel, args, kwargs, wrapped) if there else wrapped


# CUDA's kernels for these look at values on the host, in one version of PyTorch or another.
_CURIOUS = {"aten::multinomial", "aten::isin.Tensor_Tensor"}


def _reads(kernel, args):
    """Return True if the host must know values to go on."""
    if kernel.name() in _CURIOUS:
        return True
    if kernel in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    return kernel is aten._local_scalar_dense.default or torch.Tag.dynamic_output_shape in kernel.tags


def _here(value):
    if isinstance(value, There):
        return value.here
    return torch.device("cpu") if isinstance(value, torch.device) else value


class _Accelerator(Accelerator):
    """The device as Lightning sees it."""

    def setup_device(self, device):
        assert device == DEVICE

    def teardown(self):
        pass

    def get_device_stats(self, device):
        return {}

    @staticmethod
    def parse_devices(devices):
        return devices

    @staticmethod
    def get_parallel_devices(devices):
        return [DEVICE] * devices

    auto_device_count = staticmethod(lambda: 1)
    is_available = staticmethod(lambda: True)
    name = staticmethod(lambda: "elsewhere")


@contextmanager
def gpu(monkeypatch):
    """Runs with `hardware=gpu` train on the device."""
    arguments = Hardware.trainer_arguments

    def trainer_arguments(hardware, precision):
        there = {"accelerator": _Accelerator(), "strategy": SingleDeviceStrategy(DEVICE)}
        return arguments(hardware, precision) | (there if hardware.on_gpu else {})

    with monkeypatch.context() as patch, Elsewhere() as device:
        patch.setattr(Hardware, "on_gpu", property(lambda hardware: hardware.accelerator != "cpu"))
        patch.setattr(Hardware, "device", property(lambda hardware: DEVICE if hardware.on_gpu else "cpu"))
        patch.setattr(Hardware, "trainer_arguments", trainer_arguments)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "get_device_name", lambda: "elsewhere")
        yield device
