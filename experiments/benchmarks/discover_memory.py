"""Peak memory and seconds of ``discover`` on large models, each in a process of its own.

    OMP_NUM_THREADS=1 python experiments/benchmarks/discover_memory.py

Weights are random: what is measured is how much is held, and how long it takes. The memory is the
largest resident size beyond that after the model, the probe and one small forward pass of theirs.
The reference, in another process, is one forward and one backward pass over the same samples in
mini-batches of 32, with gradients of the inputs. With ``--limit`` a search is stopped after so
many seconds: the passes that take most memory, forward and backward, are its first.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

from fedcircuit import Probe, Samples, discover

CASES = {  # name: classes, side in pixels
    "resnet18-10-32": (10, 32),
    "resnet18-100-32": (100, 32),
    "resnet18-10-64": (10, 64),
    "resnet18-100-64": (100, 64),
    "mlp-100k": (10, 28),
    "vit-b-16": (10, 224),
}


def cifar_resnet18(n_classes: int) -> nn.Module:
    """ResNet18 as it is used for CIFAR: a first convolution of 3x3, no pooling behind it."""
    from torchvision.models import resnet18

    model: nn.Module = resnet18(num_classes=n_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def build(name: str, n_classes: int) -> tuple[nn.Module, int]:
    """The model with weights from a seed, and its input channels."""
    torch.manual_seed(0)
    if name.startswith("resnet18"):
        return cifar_resnet18(n_classes), 3
    if name == "vit-b-16":
        from torchvision.models import vit_b_16

        model: nn.Module = vit_b_16(num_classes=n_classes)
        nn.init.normal_(model.heads.head.weight, std=0.1)  # zero at first
        return model, 3
    layers = (nn.Flatten(), nn.Linear(28 * 28, 50_000), nn.ReLU(), nn.Linear(50_000, 64))
    wide = (nn.ReLU(), nn.Linear(64, 49_936), nn.ReLU(), nn.Linear(49_936, n_classes))
    return nn.Sequential(*layers, *wide), 1


def probe_of(name: str, channels: int, each: int) -> Probe:
    """Noise with a pattern for every class."""
    n_classes, side = CASES[name]
    labels = torch.arange(n_classes * each) % n_classes
    patterns = torch.randn(n_classes, channels, side, side)
    inputs = torch.randn(len(labels), channels, side, side).add_(patterns[labels])
    return Probe.split(Samples(inputs, labels), [str(c) for c in range(n_classes)], 0)


def fitted_(model: nn.Module, probe: Probe) -> None:
    """Give the head the mean features of the classes: random features still tell them apart."""
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    head, seen = heads[-1], []
    model.eval()
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for part in torch.split(probe.discovery.inputs, 8):
            model(part)
        hook.remove()
        features, labels = torch.cat(seen), probe.discovery.labels
        centred = features - features.mean(0)
        means = torch.stack([centred[labels == c].mean(0) for c in range(probe.n_classes)])
        head.weight.copy_(means / means.norm(dim=1, keepdim=True))
        head.bias.copy_(-head.weight @ features.mean(0))


def peak() -> int:
    """Largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one_pass(model: nn.Module, probe: Probe) -> None:
    """One forward and backward pass over the discovery half."""
    model.eval().requires_grad_(False)
    for part in torch.split(probe.discovery.inputs, 32):
        inputs = part.clone().requires_grad_()
        torch.autograd.grad(model(inputs).sum(), inputs)


class OutOfTimeError(Exception):
    """The limit is reached."""


def _stop(number: int, frame: object) -> None:
    raise OutOfTimeError


def searched(model: nn.Module, probe: Probe, memory_bytes: int, limit: int) -> dict[str, float]:
    """What ``discover`` found, and its cost; nothing if it was stopped."""
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(limit)
    try:
        result = discover(model, probe, memory_bytes=memory_bytes)
    except OutOfTimeError:
        return {}
    finally:
        signal.alarm(0)
    return {
        "found": int(result.found.sum()),
        "units": result.masks.shape[1],
        "size": float(result.masks[result.found].sum(1).double().mean()),
        "forward": result.cost.forward_images,
        "backward": result.cost.backward_images,
    }


def measure(name: str, what: str, images: int, memory_bytes: int, limit: int) -> dict[str, float]:
    """One case in this process."""
    model, channels = build(name, CASES[name][0])
    probe = probe_of(name, channels, images)
    fitted_(model, probe)
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    found = {}
    if what == "pass":
        one_pass(model, probe)
    else:
        found = searched(model, probe, memory_bytes, limit)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "bytes": peak() - before,
        "model_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        **found,
    }


def main() -> None:
    """The table, a case and what it is compared with one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--images", type=int, default=10, help="images a class, half to find on")
    parser.add_argument("--limit", type=int, default=0, help="seconds of a search; 0 is none")
    parser.add_argument("--memory-bytes", type=int, default=2**29)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "WHAT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(
            json.dumps(
                measure(*arguments.one, arguments.images, arguments.memory_bytes, arguments.limit)
            )
        )
        return
    print(f"threads {torch.get_num_threads()}, budget {arguments.memory_bytes / 2**20:.0f} MiB")
    print(
        "| case | found | GB beyond model and probe | s | passes over the probe "
        "| of one pass: GB, s | ratio of processor s |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in arguments.cases:
        rows = {}
        for what in ("discover", "pass"):
            command = [sys.executable, str(Path(__file__).resolve()), "--one", name, what]
            command += ["--memory-bytes", str(arguments.memory_bytes)]
            command += ["--images", str(arguments.images), "--limit", str(arguments.limit)]
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            rows[what] = json.loads(out.stdout.splitlines()[-1])
        print(_row(name, rows["discover"], rows["pass"], arguments.images), flush=True)


def _row(name: str, mine: dict[str, float], ref: dict[str, float], images: int) -> str:
    n = CASES[name][0] * (images - images // 2)
    what, passes, over = "stopped", "", "> "
    if "found" in mine:
        what = f"{mine['found']} of {CASES[name][0]}, {mine['size']:.0f} of {mine['units']} units"
        passes = f"{mine['forward'] / n:.1f} forward, {mine['backward'] / n:.1f} backward"
        over = ""
    cells = [
        name,
        what,
        f"{mine['bytes'] / 1e9:.2f}",
        f"{over}{mine['seconds']:.0f}",
        passes,
        f"{ref['bytes'] / 1e9:.2f}, {ref['seconds']:.1f}",
        f"{over}{mine['cpu_seconds'] / ref['cpu_seconds']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
