"""An accelerator for machines that have none: a device with the CPU's arithmetic and CUDA's rules.

Its tensors do not meet the CPU's, every wait for it is noted, and a graph captured on it replays kernels, not
Python. What it cannot show: speed, autocast, several streams, and CUDA's own kernels.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

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
        return self.here.detach().clone().__reduce_ex__(protocol)  # checkpoints are read to the CPU

    def __repr__(self):
        return f"There({self.here})"


class Elsewhere(TorchDispatchMode):
    """Computes on the device.

    Raises (in the kernel that does it):
        RuntimeError: tensors of the device meet tensors of the CPU; or a capture waits for it.
    """

    def __init__(self):
        super().__init__()
        self.waits = []
        """Kernels for which a host would have to wait for a real device."""
        self.graph = None
        """The one that is being captured."""

    def __enter__(self):
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) would not come by here
        self._threads = torch.autograd.set_multithreading_enabled(False)  # others would not know of this mode
        self._threads.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._threads.__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._lifted)

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat, form = tree_flatten((args, kwargs))
        tensors = [each for each in flat if isinstance(each, torch.Tensor)]
        there = any(isinstance(each, There) for each in tensors)
        asked = kwargs.get("device")
        stays = there if asked is None else torch.device(asked).type == DEVICE.type
        if not (there or stays):
            return kernel(*args, **kwargs)
        strays = [each for each in tensors if not isinstance(each, There)]
        copies = kernel in (aten._to_copy.default, aten.copy_.default)
        if not copies and there and any(each.ndim for each in strays):
            raise RuntimeError(f"{kernel}: {DEVICE} meets cpu")
        if _reads(kernel, args) or (copies and (strays or not stays)):
            self.waits.append(str(kernel))
            if self.graph is not None:
                raise RuntimeError(f"{kernel}: not permitted when stream is capturing")
        own = tree_unflatten([_here(each) for each in flat], form)
        with torch.inference_mode(False):  # so that a view of a plain tensor is a plain one
            out = kernel(*own[0], **own[1])
            if self.graph is not None:
                self.graph.record(kernel, own, out)
            if not stays:
                return out
            wrapped = tree_map_only(torch.Tensor, There, out)
            return return_and_correct_aliasing(kernel, args, kwargs, wrapped) if there else wrapped


# CUDA's kernels for these look at values on the host, in one version of PyTorch or another.
_CURIOUS = {"aten::multinomial", "aten::isin.Tensor_Tensor"}


def _reads(kernel, args):
    """Whether the host must know values to go on."""
    if kernel.name() in _CURIOUS:
        return True
    if kernel in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    return kernel is aten._local_scalar_dense.default or torch.Tag.dynamic_output_shape in kernel.tags


def _here(value):
    if isinstance(value, There):
        return value.here
    if isinstance(value, torch.Tensor):
        return value.clone()  # a number of the host's: a graph keeps the one that it was captured with
    return torch.device("cpu") if isinstance(value, torch.device) else value


class Graph:
    """Stands for `torch.cuda.CUDAGraph`: kernels and the memory that they read and write."""

    def __init__(self):
        self.kernels, self.memory = [], {}

    def record(self, kernel, arguments, out):
        self.kernels.append((kernel, arguments, out))
        read = {_place(each) for each in _tensors(arguments)}
        for each in _tensors(out):
            if _place(each) not in read:
                self.memory[_place(each)] = each

    def forget(self):
        """What was computed while it was captured, CUDA has never computed."""
        for each in self.memory.values():
            each.fill_(torch.nan if each.is_floating_point() else 0)

    @torch.inference_mode(False)
    @torch.no_grad()
    def replay(self):
        for kernel, (args, kwargs), out in self.kernels:
            for old, new in zip(_tensors(out), _tensors(kernel(*args, **kwargs)), strict=True):
                if _place(old) != _place(new):
                    old.copy_(new)


def _tensors(tree):
    return [each for each in tree_flatten(tree)[0] if isinstance(each, torch.Tensor)]


def _place(tensor):
    return tensor.untyped_storage().data_ptr()


class _Stream:
    def wait_stream(self, other):
        pass


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

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return "elsewhere"


@contextmanager
def gpu(monkeypatch):
    """Runs train on the device as if it were a CUDA GPU."""
    arguments = Hardware.trainer_arguments

    device = Elsewhere()

    @contextmanager
    def capture(graph):
        device.graph = graph
        try:
            yield
        finally:
            device.graph = None
        graph.forget()

    with monkeypatch.context() as patch, device:
        patch.setattr(Hardware, "on_gpu", property(lambda hardware: hardware.accelerator != "cpu"))
        patch.setattr(Hardware, "device", property(lambda hardware: DEVICE if hardware.on_gpu else "cpu"))
        patch.setattr(
            Hardware,
            "trainer_arguments",
            lambda hardware: {
                **arguments(hardware),
                **(
                    {"accelerator": _Accelerator(), "strategy": SingleDeviceStrategy(DEVICE)}
                    if hardware.on_gpu
                    else {}
                ),
            },
        )
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "get_device_name", lambda: "elsewhere")
        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "graph", capture)
        patch.setattr(torch.cuda, "Stream", _Stream)
        patch.setattr(torch.cuda, "current_stream", _Stream)
        patch.setattr(torch.cuda, "stream", nullcontext)
        yield device
