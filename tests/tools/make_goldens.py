#!/usr/bin/env python3
"""Makes tests/golden/networks/NET-SEED-SIZE.safetensors from PyTorch.

    python3 -m venv V && V/bin/pip install torch==2.15.0 torchvision==0.29.2 timm==1.0.31 safetensors numpy
    V/bin/python tests/tools/make_goldens.py [NET ...]

Each file holds one tensor, `output`: what the network answers to hashed images
with hashed weights. Both are defined in agent/src/network/hashed.rs; this is
the second, independent implementation, so a slip in either shows as a
difference. Small images: batch 2, seeds 1 and 7; the network's own size:
batch 1, seed 1 (those that know one size only: batch 2 there).
"""
import pathlib
import re
import sys

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "golden" / "networks"
MASK = 2**64 - 1
STEP = 0x9E3779B97F4A7C15
# Network (torchvision's or timm's name, or one of ours): small size, own size.
SIZES = {
    "alexnet": (96, 224), "alexnet_bn": (224, 224), "nin_bn": (224, 224), "enet": (64, 224),
    "googlenet": (96, 224), "resnet18": (64, 224), "vgg16": (64, 224), "vgg19": (64, 224),
    "resnet34": (64, 224), "resnet50": (64, 224), "resnet101": (64, 224), "resnet152": (64, 224),
    "inception_v3": (107, 299), "inception_v4": (107, 299), "vgg16_bn": (64, 224),
    "vgg19_bn": (64, 224), "alexnet_bvlc": (227, 227), "squeezenet1_1": (64, 224),
    "mobilenet_v2": (64, 224), "efficientnet_b0": (64, 224),
}


def hashed(key, seed, shape, low, high):
    """Uniform values from splitmix64 over FNV-1a of the key, rounded to f32 at each step."""
    state = 0xCBF29CE484222325
    for byte in key.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    count = int(np.prod(shape))
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(STEP)
    z += np.uint64((state + seed * STEP) & MASK)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return torch.from_numpy((np.float32(low) + np.float32(high - low) * unit).reshape(shape))


def bounds(net, key, tensor, kinds):
    layer, leaf = key.rsplit(".", 1)
    if kinds[layer] is nn.PReLU:
        return 0.1, 0.4
    if leaf == "running_mean":
        return -0.2, 0.2
    if leaf == "running_var":
        return 0.5, 1.5
    if leaf == "bias":
        return -0.1, 0.1
    if kinds[layer] in (nn.BatchNorm1d, nn.BatchNorm2d) or layer.endswith(".bn"):
        last = "bn2" if net in ("resnet18", "resnet34") else "bn3"
        ends_branch = re.fullmatch(rf"(layer|stage)\d+\.\d+\.(bn3|{last})", layer)
        return (0.1, 0.4) if ends_branch else (0.7, 1.2)
    bound = (6.0 / tensor[0].numel()) ** 0.5
    return -bound, bound


def fill(net, model, seed):
    kinds = {name: type(module) for name, module in model.named_modules()}
    state = model.state_dict()
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            low, high = bounds(net, key, tensor, kinds)
            state[key] = hashed(key, seed, tuple(tensor.shape), low, high)
    model.load_state_dict(state, strict=True)


def images(seed, batch, size):
    patch = torch.arange(size) * 8 // size
    coarse = hashed("coarse", seed, (batch, 3, 8, 8), -2.0, 2.0)
    return coarse[:, :, patch][..., patch] + hashed("input", seed, (batch, 3, size, size), -0.5, 0.5)


def numbered(layers):
    """A Sequential from (index, module) pairs: the gaps are dropout, which does nothing here."""
    stack = nn.Sequential()
    for index, layer in layers:
        stack.add_module(str(index), layer)
    return stack


def triples(rows, eps=1e-3):
    """Convolution, norm, ReLU from (index, in, out, kernel, stride, padding, groups)."""
    for at, i, o, k, s, p, g in rows:
        yield at, nn.Conv2d(i, o, k, s, p, groups=g)
        yield at + 1, nn.BatchNorm2d(o, eps=eps)
        yield at + 2, nn.ReLU()


def net_of(features, classifier):
    net = nn.Sequential()
    net.features, net.flatten, net.classifier = features, nn.Flatten(), classifier
    return net


def ordered(*groups):
    return numbered(sorted((pair for group in groups for pair in group), key=lambda pair: pair[0]))


def alexnet_bn():
    rows = [(0, 3, 96, 11, 4, 2, 1), (4, 96, 256, 5, 1, 2, 2), (8, 256, 384, 3, 1, 1, 2),
            (11, 384, 384, 3, 1, 1, 2), (14, 384, 256, 3, 1, 1, 2)]
    pools = [(at, nn.MaxPool2d(3, 2)) for at in (3, 7, 17)]
    hidden = [(1, 9216), (5, 4096)]
    head = [(at, nn.Linear(i, 4096)) for at, i in hidden]
    head += [(at + 1, nn.BatchNorm1d(4096, eps=1e-3)) for at, _ in hidden]
    head += [(at + 2, nn.ReLU()) for at, _ in hidden] + [(8, nn.Linear(4096, 1000))]
    return net_of(ordered(triples(rows), pools), ordered(head))


def alexnet_bvlc():
    rows = [(0, 3, 96, 11, 4, 0, 1), (4, 96, 256, 5, 1, 2, 2), (8, 256, 384, 3, 1, 1, 1),
            (10, 384, 384, 3, 1, 1, 2), (12, 384, 256, 3, 1, 1, 2)]
    convs = [(at, nn.Conv2d(i, o, k, s, p, groups=g)) for at, i, o, k, s, p, g in rows]
    relus = [(row[0] + 1, nn.ReLU()) for row in rows]
    lrns = [(at, nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)) for at in (2, 6)]
    pools = [(at, nn.MaxPool2d(3, 2, ceil_mode=True)) for at in (3, 7, 14)]
    head = [(1, nn.Linear(9216, 4096)), (2, nn.ReLU()), (4, nn.Linear(4096, 4096)), (5, nn.ReLU()),
            (6, nn.Linear(4096, 1000))]
    return net_of(ordered(convs, relus, lrns, pools), numbered(head))


def nin_bn():
    rows = []
    for at, i, o, k, s, p in [(0, 3, 96, 11, 4, 5), (10, 96, 256, 5, 1, 2), (20, 256, 384, 3, 1, 1),
                              (30, 384, 1024, 3, 1, 1)]:
        rows += [(at, i, o, k, s, p, 1), (at + 3, o, o, 1, 1, 0, 1), (at + 6, o, o, 1, 1, 0, 1)]
    pools = [(at, nn.MaxPool2d(3, 2, 1)) for at in (9, 19, 29)] + [(39, nn.AvgPool2d(7, 1))]
    return net_of(ordered(triples(rows), pools), nn.Linear(1024, 1000))


class Bottleneck(nn.Module):
    """ENet's block; `halve` is the inner width's divisor in a block that halves the size."""

    def __init__(self, i, o, halve=0, spread=1):
        super().__init__()
        side, n = (2, o // halve) if halve else (1, o // 4)
        norm = lambda channels: nn.BatchNorm2d(channels, eps=1e-3)
        self.reduce, self.bn1, self.act1 = nn.Conv2d(i, n, side, side, bias=False), norm(n), nn.PReLU(n)
        self.conv, self.bn2, self.act2 = nn.Conv2d(n, n, 3, padding=spread, dilation=spread), norm(n), nn.PReLU(n)
        self.expand, self.bn3, self.act = nn.Conv2d(n, o, 1, bias=False), norm(o), nn.PReLU(o)
        self.shortcut = nn.MaxPool2d(2) if halve else nn.Identity()

    def forward(self, x):
        y = self.act1(self.bn1(self.reduce(x)))
        y = self.bn3(self.expand(self.act2(self.bn2(self.conv(y)))))
        x = self.shortcut(x)
        zeros = x.new_zeros(x.shape[0], y.shape[1] - x.shape[1], *x.shape[2:])
        return self.act(y + torch.cat([x, zeros], 1))


class Enet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 13, 3, 2, 1), nn.MaxPool2d(2)
        self.bn, self.act = nn.BatchNorm2d(16, eps=1e-3), nn.PReLU(16)
        block = Bottleneck
        self.stage1 = nn.Sequential(block(16, 64, 1), block(64, 128), block(128, 128))
        for stage, i, spread in ((2, 128, 2), (3, 256, 4), (4, 512, 8)):
            o = 2 * i
            blocks = nn.Sequential(block(i, o, 4), block(o, o), block(o, o, spread=spread))
            setattr(self, f"stage{stage}", blocks)
        self.classifier = nn.Linear(1024, 1000)

    def forward(self, x):
        x = self.act(self.bn(torch.cat([self.conv(x), self.pool(x)], 1)))
        return self.classifier(self.stage4(self.stage3(self.stage2(self.stage1(x)))).mean((2, 3)))


OURS = {"alexnet_bn": alexnet_bn, "alexnet_bvlc": alexnet_bvlc, "nin_bn": nin_bn, "enet": Enet}


def build(net):
    if net in OURS:
        return OURS[net]()
    if net == "inception_v4":
        return timm.create_model(net, pretrained=False)
    inception = {"aux_logits": False, "init_weights": False, "transform_input": True}
    extra = inception if net in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, net)(weights=None, **extra)


def main():
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for net in sys.argv[1:] or SIZES:
        small, own = SIZES[net]
        model = build(net).eval()
        jobs = [(1, small, 2), (7, small, 2)] + ([] if own == small else [(1, own, 1)])
        for seed, size, batch in jobs:
            fill(net, model, seed)
            with torch.inference_mode():
                output = model(images(seed, batch, size))
            path = FOLDER / f"{net.replace('_', '-')}-{seed}-{size}.safetensors"
            save_file({"output": output.contiguous()}, path)
            print(path.name, f"torch {torch.__version__}", f"rms {output.pow(2).mean().sqrt():.3f}")


if __name__ == "__main__":
    main()
