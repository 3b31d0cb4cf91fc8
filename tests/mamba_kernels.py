"""Outputs and gradients of mamba-ssm's own kernels, run on a CPU by Triton's interpreter.

    python tests/mamba_kernels.py > tests/data/mamba_ssm.json

The command needs triton 3.7 or later and mamba-ssm, which may be built without its CUDA code. It must run in
a process of its own: Triton decides for or against its interpreter when it is imported. Mamba-1's scan is
CUDA code, so that here mamba-ssm's own reference in Python takes its place. The interpreter computes in
float32 alone.
"""

import base64
import contextlib
import json
import os
import sys
import types

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["MAMBA_DETERMINISTIC"] = "1"  # one block size for each kernel: autotuning asks for a GPU

import torch

V, READ, STEPS, CHUNK = 7, 6, 3, 4
SIZES = {"layers": 2, "width": 4, "state_size": 3}
"""Options of our models."""
SIZES_2 = {"head_width": 4, "chunk": CHUNK}
"""Further options of Mamba-2."""


def wave(*shape, pace=1.0):
    """Return numbers in [-1, 1] without a random generator, whose numbers depend on torch's version."""
    count = torch.Size(shape).numel()
    return torch.sin(pace * torch.arange(1, count + 1, dtype=torch.float64) ** 2).view(shape).float()


def set_weights(model):
    """Give the parameters values that depend on their order and shapes alone."""
    with torch.no_grad():
        for index, (name, parameter) in enumerate(model.named_parameters()):
            values = wave(*parameter.shape, pace=1 + index / 10)
            parameter.copy_(1 + 0.3 * values if "norm" in name else 0.5 * values)


def tokens():
    return (torch.arange(2 * (READ + STEPS)) ** 2 % V).view(2, READ + STEPS)


def ssd_inputs():
    """Return input, step, decay, write and read in our shapes: two rows, nine tokens, two heads."""
    shapes = [(2, 9, 2, 2), (2, 9, 2), (2,), (2, 9, 3), (2, 9, 3)]
    u, step, decay, write, read = (wave(*shape, pace=1 + i / 7) for i, shape in enumerate(shapes))
    inputs = [u, (step - 1).exp(), -(decay + 1).exp(), write, read]
    return [tensor.requires_grad_() for tensor in inputs]


def output_and_gradients(y, inputs):
    """Return the output of a scan, and the gradients by its inputs."""
    gradients = torch.autograd.grad((y * wave(*y.shape, pace=0.7)).sum(), inputs)
    names = ("u", "step", "decay", "write", "read")
    return {"y": y, **dict(zip(names, gradients, strict=True))}


def logits_and_gradients(model, read, step):
    """Return the logits of one pass, those of decoding token by token, and the gradients by name.

    Args:
        read: returns the logits of a whole batch of tokens.
        step: returns the logits of the next piece of a batch.
    """
    logits = read(tokens())
    (logits * wave(*logits.shape, pace=0.7)).sum().backward()
    with torch.no_grad():
        decoded = torch.cat([step(piece) for piece in tokens().split([READ] + [1] * STEPS, 1)], 1)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"logits": logits, "decoded": decoded[:, READ:], **gradients}


def import_kernels():
    """Import mamba-ssm without its CUDA code, and hide from Triton's launchers that there is no GPU."""
    sys.modules["selective_scan_cuda"] = types.ModuleType("selective_scan_cuda")
    torch.cuda.device = lambda index: contextlib.nullcontext()
    torch.cuda.get_device_properties = lambda device: types.SimpleNamespace(multi_processor_count=1)
    from mamba_ssm.modules import mamba_simple
    from mamba_ssm.ops.selective_scan_interface import selective_scan_ref

    mamba_simple.selective_scan_fn = selective_scan_ref


def run_ssd():
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    u, step, decay, write, read = inputs = ssd_inputs()
    y = mamba_chunk_scan_combined(u, step, decay, write[:, :, None], read[:, :, None], CHUNK)
    return output_and_gradients(y, inputs)


def run_model(layer, **options):
    from mamba_ssm.models.config_mamba import MambaConfig
    from mamba_ssm.models.mixer_seq_simple import MambaLMHeadModel
    from mamba_ssm.utils.generation import InferenceParams

    config = MambaConfig(
        d_model=SIZES["width"],
        n_layer=SIZES["layers"],
        vocab_size=V,
        pad_vocab_size_multiple=1,
        ssm_cfg={"layer": layer, "d_state": SIZES["state_size"], **options},
    )
    model = MambaLMHeadModel(config)
    set_weights(model)
    cache = InferenceParams(max_seqlen=READ + STEPS, max_batch_size=2)

    def step(piece):
        logits = model(piece, inference_params=cache).logits
        cache.seqlen_offset += piece.shape[1]
        return logits

    return logits_and_gradients(model, lambda whole: model(whole).logits, step)


def encode(item):
    """Return a name and its numbers in base64: a third of the size of decimals, and exact."""
    name, tensor = item
    return name, base64.b64encode(tensor.detach().contiguous().numpy().tobytes()).decode()


def decode(text):
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32)


def main():
    import_kernels()
    # mamba-ssm's fused path of Mamba-2 calls causal-conv1d, which is CUDA code; its other path does not.
    two = {"headdim": SIZES_2["head_width"], "chunk_size": CHUNK, "use_mem_eff_path": False}
    results = {"ssd": run_ssd(), "Mamba": run_model("Mamba1"), "Mamba2": run_model("Mamba2", **two)}
    print(json.dumps({case: dict(map(encode, result.items())) for case, result in results.items()}, indent=1))


if __name__ == "__main__":
    main()
