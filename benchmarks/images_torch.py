"""The PyTorch side of benchmarks/images.py: WGAN-GP updates of a DCGAN in eager PyTorch, as fast as autograd takes them.

benchmarks/images.py starts this file as benchmarks/toy.py does its own; requests and answers are the same. Variants are the
memory layouts `nchw` and `channels_last`; series have the first alone, and one axis T where images have H, W. Both make the
fakes of all critic updates in one pass, pass real and generated images through the critic together, use the fused Adam, and
never wait for a value. Images, and with them kernels, are the mirror images of JAX's in every direction: PyTorch's symmetric
padding of 2 then is SAME.
"""

import itertools
import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.toy_torch import serve


class Settings(NamedTuple):
    """The numbers of a config; of the optimizers, (learning rate, beta1, beta2)."""

    dtype: str
    batch_size: int
    n_critic: int
    latent_dim: int
    sizes: list[int]  # of images, or series, from the whole down to the smallest
    channels: int
    width: int
    penalty_weight: float
    critic: tuple[float, float, float]
    generator: tuple[float, float, float]
    ema_decay: float
    axes: int = 2  # 1 for series


class Noise(NamedTuple):
    """Everything random in one update: n critic updates of batch B, then a generator update."""

    real: Tensor  # [n, B, C, H, W]
    latents: Tensor  # [n, B, Z]
    epsilons: Tensor  # [n, B, 1, 1, 1]
    generator_latents: Tensor  # [B, Z]


class Generator(nn.Module):
    """Latents [B, Z] to images [B, C, H, H]."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        widths = [s.channels, *(s.width * 2**i for i in range(len(s.sizes) - 1))]
        self.start = (widths[-1], *[s.sizes[-1]] * s.axes)
        self.dense = nn.Linear(s.latent_dim, math.prod(self.start))
        transposed = nn.ConvTranspose2d if s.axes == 2 else nn.ConvTranspose1d
        steps = list(zip(widths, widths[1:], s.sizes, strict=False))[::-1]
        self.layers = nn.ModuleList(
            transposed(inner, outer, 5, 2, 2, output_padding=1 - size % 2) for outer, inner, size in steps
        )

    def forward(self, latents: Tensor) -> Tensor:
        x = self.dense(latents).view(-1, *self.start)
        for layer in self.layers:
            x = layer(functional.relu(x))
        return torch.tanh(x) if len(self.start) == 3 else x  # series have no bounds


class Critic(nn.Module):
    """Images [B, C, H, H] to scores [B]."""

    def __init__(self, s: Settings) -> None:
        super().__init__()
        widths = [s.channels, *(s.width * 2**i for i in range(len(s.sizes) - 1))]
        convolution = nn.Conv2d if s.axes == 2 else nn.Conv1d
        self.layers = nn.ModuleList(convolution(a, b, 5, 2, 2) for a, b in itertools.pairwise(widths))
        self.dense = nn.Linear(widths[-1] * s.sizes[-1] ** s.axes, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        return self.dense(x.flatten(1))[:, 0]


class Update:
    """One way to write the update."""

    networks: tuple[Any, Any] = (Critic, Generator)

    def __init__(self, settings: Settings, layout: torch.memory_format, stored: Any) -> None:
        self.settings, self.layout, self.step = settings, layout, 0
        self.critic, self.generator = (make(settings) for make in self.networks)
        for name, player in (("critic", self.critic), ("generator", self.generator)):
            with torch.no_grad():
                for index, parameter in enumerate(player.parameters()):
                    parameter.copy_(torch.from_numpy(stored[f"{name}_{index}"]))
            player.to(memory_format=layout)
        self.ema = [parameter.detach().clone() for parameter in self.generator.parameters()]
        self.optimizers = {
            name: torch.optim.Adam(player.parameters(), lr=rate, betas=(beta1, beta2), fused=True)
            for name, player, (rate, beta1, beta2) in (
                ("critic", self.critic, settings.critic),
                ("generator", self.generator, settings.generator),
            )
        }

    def draw(self) -> Noise:
        """Returns the noise of one update."""
        s = self.settings
        real = torch.rand(s.n_critic, s.batch_size, s.channels, *[s.sizes[0]] * s.axes).mul_(2).sub_(1)
        latents = torch.randn(s.n_critic, s.batch_size, s.latent_dim)
        epsilons = torch.rand(s.n_critic, s.batch_size, *[1] * (1 + s.axes))
        return Noise(real, latents, epsilons, torch.randn(s.batch_size, s.latent_dim))

    def score(self, x: Tensor) -> Tensor:
        """Returns the scores of images, to be differentiated once."""
        return self.critic(x)

    def generate(self, latents: Tensor) -> Tensor:
        """Returns images."""
        return self.generator(latents)

    def penalty(self, points: Tensor) -> Tensor:
        """Returns mean (|grad f| - 1)^2 at points."""
        (slope,) = torch.autograd.grad(self.critic(points).sum(), points, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()

    def update(self, noise: Noise) -> None:
        """Takes n_critic critic updates and a generator update, and moves the average."""
        s = self.settings
        with torch.no_grad():
            fakes = self.generate(noise.latents.flatten(0, 1)).unflatten(0, noise.latents.shape[:2])
        for real, fake, epsilon in zip(noise.real, fakes, noise.epsilons, strict=True):
            self.critic_update(real.contiguous(memory_format=self.layout), fake, epsilon)
        for parameter in self.critic.parameters():
            parameter.requires_grad_(False)
        self.optimizers["generator"].zero_grad(set_to_none=True)
        (-self.score(self.generate(noise.generator_latents)).mean()).backward()
        self.optimizers["generator"].step()
        for parameter in self.critic.parameters():
            parameter.requires_grad_(True)
        with torch.no_grad():
            weight = 1 - min(s.ema_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.ema, list(self.generator.parameters()), weight)
        self.step += 1

    def critic_update(self, real: Tensor, fake: Tensor, epsilon: Tensor) -> None:
        """Takes one critic update on [B, C, H, W] real and generated images."""
        points = torch.lerp(fake, real, epsilon).requires_grad_()
        penalty = self.penalty(points)
        real_scores, fake_scores = self.score(torch.cat([real, fake])).chunk(2)
        loss = fake_scores.mean() - real_scores.mean() + self.settings.penalty_weight * penalty
        self.optimizers["critic"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers["critic"].step()


VARIANTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}  # the second of images alone


class Server:
    """Answers requests; see benchmarks/toy_torch.py."""

    def __init__(self) -> None:
        self.updates: dict[str, Update] = {}

    def hello(self) -> dict[str, Any]:
        """Returns what is here."""
        return {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def load(self, file: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Makes every variant's update anew."""
        numbers = Settings(**settings)
        torch.set_default_dtype(getattr(torch, numbers.dtype))
        torch.manual_seed(0)
        with np.load(file, allow_pickle=False) as stored:
            self.updates = {
                variant: Update(numbers, layout, stored)
                for variant, layout in VARIANTS.items()
                if numbers.axes == 2 or variant == "nchw"
            }
        return {"variants": list(self.updates)}

    def run(self, variant: str, seconds: float) -> dict[str, Any]:
        """Takes an update, and then more, one at least, until so many seconds have passed."""
        one, done = self.updates[variant], 0
        one.update(one.draw())
        start = time.perf_counter()
        while done == 0 or time.perf_counter() - start < seconds:
            one.update(one.draw())
            done += 1
        return {"updates": done, "seconds": time.perf_counter() - start}

    def check(self, variant: str, file: str, out: str) -> dict[str, Any]:
        """Takes one update on given noise."""
        one = self.updates[variant]
        with np.load(file, allow_pickle=False) as stored:
            names = ("real", "latents", "epsilons", "generator_latents")
            one.update(Noise(*(torch.from_numpy(stored[name]) for name in names)))
        players = {"critic": list(one.critic.parameters()), "generator": list(one.generator.parameters()), "ema": one.ema}
        arrays = {f"{name}_{i}": p.detach().contiguous().numpy() for name, ps in players.items() for i, p in enumerate(ps)}
        np.savez(out, **arrays)
        return {}


if __name__ == "__main__":
    serve(Server())
