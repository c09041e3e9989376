"""Small weight files as PyTorch itself writes them, for the readers' tests.

Usage: python3 make_weight_files.py OUTDIR     (torch and safetensors needed)

One network of 3 layers with weights (its graph is OUTDIR/tiny.toml); values
are halves of small whole numbers, so that every float type holds them exactly.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

SHAPES = [
    ("conv.weight", (4, 3, 3, 3)), ("conv.bias", (4,)),
    ("bn.weight", (4,)), ("bn.bias", (4,)), ("bn.running_mean", (4,)), ("bn.running_var", (4,)),
    ("fc.weight", (5, 4)), ("fc.bias", (5,)),
]


def state(dtype=torch.float32):
    tensors = OrderedDict()
    for number, (key, shape) in enumerate(SHAPES):
        count = int(torch.Size(shape).numel())
        values = (torch.arange(count, dtype=torch.float64) * 7 + number * 3) % 11 - 5
        if key.endswith("running_var"):
            values = values.abs() + 1
        tensors[key] = (values / 2).reshape(shape).to(dtype)
    tensors["bn.num_batches_tracked"] = torch.tensor(3)
    return tensors


def main(out):
    torch.save(state(), out / "f32.pth")
    for name, dtype in [("f16", torch.float16), ("bf16", torch.bfloat16), ("f64", torch.float64)]:
        torch.save(state(dtype), out / f"{name}.pth")
    torch.save(state(), out / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state().items()}},
               out / "checkpoint.pth")
    views = state()
    views["conv.weight"] = views["conv.weight"].contiguous(memory_format=torch.channels_last)
    shared = torch.cat([views["bn.weight"], views["bn.bias"]])
    views["bn.weight"], views["bn.bias"] = shared[:4], shared[4:]
    views["fc.weight"] = torch.nn.Parameter(views["fc.weight"].t().contiguous().t())
    torch.save(views, out / "views.pth")
    ints = state()
    ints["fc.weight"] = ints["fc.weight"].to(torch.int32)
    torch.save(ints, out / "ints.pth")
    torch.save(torch.nn.Linear(4, 5), out / "model.pth")
    save_file({k: v.contiguous() for k, v in state().items()}, out / "f32.safetensors")
    save_file({k: v.contiguous() for k, v in state(torch.bfloat16).items()},
              out / "bf16.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
