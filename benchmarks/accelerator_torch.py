"""The PyTorch side of benchmarks/accelerator.py: the updates of images_torch.py and toy_torch.py, and of a ResNet, on a GPU.

benchmarks/accelerator.py starts this file as benchmarks/toy.py does its own, and asks

    {"do": "hello", "device"}                                              -> {"torch", "device"}: of the device's name
    {"do": "load", "file", "settings", "network", "device", "precision", "compiled"}   -> {}
    {"do": "run", "variant", "seconds"}                                    -> {"updates", "seconds"}
    {"do": "check", "variant", "file", "out"}                              -> {}

Variants: `eager`, with channels last and the fused Adam, and `compiled`, which is the same with the scores and the generator's
passes under torch.compile; it has no second derivatives, so the penalty stays eager. Precisions are those of
benchmarks/cases.py: bfloat16 is by autocast, with the penalty apart from it unless asked.
"""

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import images_torch, toy_torch


class Block(nn.Module):
    """The residual block of wgan_jax/models/resnet.py, without normalisation."""

    def __init__(self, channels: int, features: int, resample: str = "", *, first: bool = False) -> None:
        super().__init__()
        self.resample, self.first = resample, first
        middle = channels if resample == "down" and not first else features
        self.convolutions = nn.ModuleList([nn.Conv2d(channels, middle, 3, 1, 1), nn.Conv2d(middle, features, 3, 1, 1)])
        self.shortcut = nn.Conv2d(channels, features, 1) if resample or channels != features else None

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.first else functional.relu(x)
        h = _double(h) if self.resample == "up" else h
        h = self.convolutions[1](functional.relu(self.convolutions[0](h)))
        if self.resample == "down":
            h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
        x = x if self.shortcut is None else self.shortcut(x)
        return h + (_double(x) if self.resample == "up" else x)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


class Generator(nn.Module):
    """Latents [B, Z] to images [B, C, H, H]."""

    def __init__(self, s: images_torch.Settings) -> None:
        super().__init__()
        self.shape = (-1, s.width, s.sizes[-1], s.sizes[-1])
        self.dense = nn.Linear(s.latent_dim, s.width * s.sizes[-1] ** 2)
        self.blocks = nn.ModuleList(Block(s.width, s.width, "up") for _ in s.sizes[1:])
        self.last = nn.Conv2d(s.width, s.channels, 3, 1, 1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.dense(latents).view(self.shape)
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.last(functional.relu(x)))


class Critic(nn.Module):
    """Images [B, C, H, H], up to 32, to scores [B]."""

    def __init__(self, s: images_torch.Settings) -> None:
        super().__init__()
        first = Block(s.channels, s.width, "down", first=True)
        self.blocks = nn.ModuleList([first, *(Block(s.width, s.width, resample) for resample in ("down", "", ""))])
        self.dense = nn.Linear(s.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.dense(functional.relu(x).mean((2, 3)))[:, 0]


class Passes(NamedTuple):
    """How networks are called: what is differentiated once, and the penalty."""

    device: str
    once: bool  # in bfloat16, by autocast
    penalty: bool
    compiled: bool  # what is differentiated once

    def autocast(self, *, penalty: bool = False) -> torch.autocast:
        """Returns the context of a pass."""
        return torch.autocast(self.device, torch.bfloat16, self.penalty if penalty else self.once)

    def first_order(self, module: nn.Module) -> Any:
        """Returns a network for what is differentiated once."""
        return torch.compile(module) if self.compiled else module


class Images(images_torch.Update):
    """The update of a DCGAN, or of a ResNet."""

    def __init__(self, settings: dict[str, Any], stored: Any, passes: Passes, *, residual: bool) -> None:
        if residual:
            self.networks = (Critic, Generator)
        super().__init__(images_torch.Settings(**settings), torch.channels_last, stored)
        self.passes = passes
        self.first_order = passes.first_order(self.critic), passes.first_order(self.generator)

    def score(self, x: Tensor) -> Tensor:
        """Returns the scores of images, to be differentiated once."""
        with self.passes.autocast():
            return self.first_order[0](x).to(x.dtype)

    def generate(self, latents: Tensor) -> Tensor:
        """Returns images."""
        with self.passes.autocast():
            return self.first_order[1](latents).to(latents.dtype)

    def penalty(self, points: Tensor) -> Tensor:
        """Returns mean (|grad f| - 1)^2 at points."""
        with self.passes.autocast(penalty=True):
            return super().penalty(points)


class Points(toy_torch.Modules):
    """The update of multilayer perceptrons."""

    def __init__(self, settings: dict[str, Any], stored: Any, passes: Passes) -> None:
        self.passes, self.in_penalty = passes, False
        numbers = toy_torch.Settings(**settings)
        super().__init__(numbers, toy_torch.read(stored, "critic"), toy_torch.read(stored, "generator"))

    def prepare(self) -> None:
        """Moves the parameters into modules and makes the optimizers."""
        super().prepare()
        self.first_order = {name: self.passes.first_order(module) for name, module in self.modules.items()}

    def apply(self, player: str, x: Tensor) -> Tensor:
        """Returns the outputs of a network, [..., out]."""
        with self.passes.autocast(penalty=self.in_penalty):
            return (self.modules if self.in_penalty else self.first_order)[player](x).to(x.dtype)

    def penalty(self, points: Tensor) -> Tensor:
        """Returns mean (|grad f| - 1)^2 at points [B, D]."""
        self.in_penalty = True
        try:
            return super().penalty(points)
        finally:
            self.in_penalty = False


class Server:
    """Answers requests; see benchmarks/toy_torch.py."""

    def __init__(self) -> None:
        self.updates: dict[str, Any] = {}
        self.device = "cpu"

    def hello(self, device: str = "cpu") -> dict[str, Any]:
        """Returns what is here, of a device."""
        name = torch.cuda.get_device_name() if device == "cuda" else device
        return {"torch": torch.__version__, "device": name}

    def load(
        self, file: str, settings: dict[str, Any], network: str, device: str, precision: str, *, compiled: bool
    ) -> dict[str, Any]:
        """Makes the update anew, `eager` and, if asked, `compiled` too, each of which it takes once."""
        self.updates.clear()
        self.device = device
        torch.cuda.empty_cache()  # the card is JAX's too
        if device == "cpu":
            torch.set_num_threads(1)  # networks that are tried there are tiny
        torch.set_default_device(device)
        torch.set_default_dtype(getattr(torch, settings["dtype"]))
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "float32"
        torch.backends.cudnn.benchmark = True  # the fastest of cuDNN's algorithms, as XLA's autotuning takes it
        torch.manual_seed(0)
        with np.load(file, allow_pickle=False) as stored:
            for variant in ("eager", "compiled")[: 1 + compiled]:
                narrow = precision.startswith("bfloat16")
                passes = Passes(device, narrow, precision == "bfloat16 penalty", variant == "compiled")
                if network == "mlp":
                    self.updates[variant] = Points(settings, stored, passes)
                else:
                    self.updates[variant] = Images(settings, stored, passes, residual=network == "resnet")
        return {}

    def run(self, variant: str, seconds: float) -> dict[str, Any]:
        """Takes two updates, and then more, one at least, until so many seconds have passed."""
        one, done = self.updates[variant], 0
        for _ in range(2):
            one.update(one.draw())
        self.wait()
        start = time.perf_counter()
        while done == 0 or time.perf_counter() - start < seconds:
            one.update(one.draw())
            done += 1
        self.wait()
        return {"updates": done, "seconds": time.perf_counter() - start}

    def wait(self) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def check(self, variant: str, file: str, out: str) -> dict[str, Any]:
        """Takes one update on given noise."""
        one = self.updates[variant]
        with np.load(file, allow_pickle=False) as stored:
            names = ("real", "latents", "epsilons", "generator_latents")
            one.update(images_torch.Noise(*(torch.tensor(stored[name]) for name in names)))
        players = {"critic": one.critic, "generator": one.generator, "ema": one.ema}
        lists = {name: p if isinstance(p, list) else list(p.parameters()) for name, p in players.items()}
        arrays = {f"{name}_{i}": p.detach().contiguous().cpu().numpy() for name, ps in lists.items() for i, p in enumerate(ps)}
        np.savez(out, **arrays)
        return {}


if __name__ == "__main__":
    toy_torch.serve(Server())
