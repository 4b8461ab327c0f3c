"""The PyTorch side of benchmarks/toy.py: WGAN-GP updates of multilayer perceptrons in eager PyTorch, as fast as it goes.

benchmarks/toy.py starts this file with the interpreter of its option --torch-python (Python 3.10 or newer with torch and numpy)
and talks to it over pipes, a JSON object a line: a request on stdin, its answer on stdout. To try it by hand:

    echo '{"do": "hello"}' | python -m benchmarks.toy_torch

    {"do": "hello"}                                       -> {"torch", "threads", "variants"}
    {"do": "load", "file": F.npz, "settings": {...}}      -> {}: the initial parameters and Settings of the updates to come
    {"do": "run", "variant", "threads", "seconds"}        -> {"updates", "seconds"}: after an untimed update, as many as fit
    {"do": "check", "variant", "file", "out": F.npz}      -> {}: an update on the noise in `file`, parameters after it in `out`

A request that fails is answered by {"error": message}. An .npz of parameters has critic_0, critic_1, ... and generator_0, ...:
weight [out, in] and bias [out] of each layer in turn, with ReLU between layers.

A variant is a way to write one update (VARIANTS). All draw data, latents and epsilons with torch in a few calls per update,
make the fakes of all critic updates in one pass, pass real and generated examples through the critic together, use the fused
Adam, and never wait for a value. Tried and left out, since they were slower at every width: penalising the interpolates in
the critic's pass over real and generated (autograd then drags zeros through the whole first backward pass),
torch.func.grad, and oneDNN's fused linear and ReLU.
"""

import json
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, _foreach_lerp_, _fused_adam_, nn
from torch.nn import functional

threshold_backward = torch.ops.aten.threshold_backward.grad_input  # (gradient, output, 0, grad_input): ReLU's derivative
EPSILON = 1e-8  # of Adam


class Settings(NamedTuple):
    """The numbers of a config; of the optimizers, (learning rate, beta1, beta2)."""

    dtype: str
    batch_size: int
    n_critic: int
    latent_dim: int
    centres: list[list[float]]  # the data: a mixture of Gaussians with equal weights
    sigma: float
    penalty_weight: float
    critic: tuple[float, float, float]
    generator: tuple[float, float, float]
    decay_steps: float
    ema_decay: float


class Noise(NamedTuple):
    """Everything random in one update: n critic updates of batch B, then a generator update."""

    real: Tensor  # [n, B, D]
    latents: Tensor  # [n, B, Z]
    epsilons: Tensor  # [n, B, 1]
    generator_latents: Tensor  # [B, Z]


class Moments(NamedTuple):
    """Adam's memory of a list of tensors."""

    first: list[Tensor]
    second: list[Tensor]
    steps: list[Tensor]

    @staticmethod
    def of(parameters: list[Tensor]) -> "Moments":
        """Returns the memory before the first step."""
        first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        return Moments(first, second, [torch.zeros((), dtype=torch.float32) for _ in parameters])


def adam(parameters: list[Tensor], gradients: list[Tensor], moments: Moments, rate: float, beta1: float, beta2: float) -> None:
    """Takes a step of Adam in place: the kernel of torch.optim.Adam(fused=True) without the bookkeeping around it."""
    for step in moments.steps:
        step.add_(1)
    _fused_adam_(
        parameters,
        gradients,
        moments.first,
        moments.second,
        [],
        moments.steps,
        lr=rate,
        beta1=beta1,
        beta2=beta2,
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


class Functional:
    """The networks as functions of lists, autograd for every derivative, Adam's kernel called directly."""

    inference = False  # whether the update may run in torch.inference_mode

    def __init__(self, settings: Settings, critic: list[Tensor], generator: list[Tensor]) -> None:
        self.settings, self.step = settings, 0
        self.critic, self.generator = ([p.requires_grad_() for p in player] for player in (critic, generator))
        self.ema = [p.detach().clone() for p in generator]
        self.centres = torch.tensor(settings.centres)
        size = settings.batch_size
        self.signs = torch.cat([torch.full((size,), -1 / size), torch.full((size,), 1 / size)])  # of the scores, in the loss
        self.prepare()

    def prepare(self) -> None:
        """Makes what a variant needs besides."""
        self.critic_moments, self.generator_moments = Moments.of(self.critic), Moments.of(self.generator)

    def draw(self) -> Noise:
        """Returns the noise of one update."""
        s = self.settings
        count, size, dim = s.n_critic, s.batch_size, self.centres.shape[1]
        real = self.centres[torch.randint(len(self.centres), (count, size))].add_(torch.randn(count, size, dim), alpha=s.sigma)
        latents = torch.randn(count, size, s.latent_dim)
        return Noise(real, latents, torch.rand(count, size, 1), torch.randn(size, s.latent_dim))

    def update(self, noise: Noise) -> None:
        """Takes n_critic critic updates and a generator update, and moves the average."""
        s = self.settings
        decay = max(0.0, 1 - self.step / s.decay_steps)
        self.critic_phase(noise, s.critic[0] * decay)
        self.generator_update(noise.generator_latents, s.generator[0] * decay)
        self.average(1 - min(s.ema_decay, (1 + self.step) / (10 + self.step)))
        self.step += 1

    def critic_phase(self, noise: Noise, rate: float) -> None:
        """Takes n_critic critic updates."""
        with torch.no_grad():
            fake = self.apply("generator", noise.latents)
            both = torch.cat([noise.real, fake], 1)
            points = torch.lerp(fake, noise.real, noise.epsilons)
        for index in range(len(both)):
            self.critic_update(both[index], points[index], rate)

    def apply(self, player: str, x: Tensor) -> Tensor:
        """Returns the outputs of a network, [..., out]."""
        parameters = self.critic if player == "critic" else self.generator
        for index in range(0, len(parameters) - 2, 2):
            x = functional.relu(functional.linear(x, parameters[index], parameters[index + 1]))
        return functional.linear(x, parameters[-2], parameters[-1])

    def penalty(self, points: Tensor) -> Tensor:
        """Returns mean (|grad f| - 1)^2 at points [B, D]."""
        points.requires_grad_()
        (gradient,) = torch.autograd.grad(self.apply("critic", points).sum(), points, create_graph=True)
        return (torch.linalg.vector_norm(gradient, dim=1) - 1).square().mean()

    def critic_loss(self, both: Tensor, points: Tensor) -> Tensor:
        """Returns mean f(G(z)) - mean f(x) + lambda mean (|grad f| - 1)^2, of real and generated [2B, D] and points [B, D]."""
        penalty = self.penalty(points)
        return torch.dot(self.apply("critic", both).view(-1), self.signs) + self.settings.penalty_weight * penalty

    def generator_loss(self, latents: Tensor) -> Tensor:
        """Returns -mean f(G(z))."""
        return -self.apply("critic", self.apply("generator", latents)).mean()

    def critic_update(self, both: Tensor, points: Tensor, rate: float) -> None:
        """Takes one critic update."""
        gradients = torch.autograd.grad(self.critic_loss(both, points), self.critic)
        with torch.no_grad():
            adam(self.critic, list(gradients), self.critic_moments, rate, *self.settings.critic[1:])

    def generator_update(self, latents: Tensor, rate: float) -> None:
        """Takes one generator update."""
        gradients = torch.autograd.grad(self.generator_loss(latents), self.generator)
        with torch.no_grad():
            adam(self.generator, list(gradients), self.generator_moments, rate, *self.settings.generator[1:])

    def average(self, weight: float) -> None:
        """Moves the average of the generator's parameters."""
        with torch.no_grad():
            _foreach_lerp_(self.ema, self.generator, weight)


class HalfByHand(Functional):
    """The penalty's input gradient written out, autograd for everything else.

    Autograd's second derivative of ReLU is a tensor of zeros that it carries back through the forward pass, a sixth more
    matmul work than necessary. Here the units that are on are constants.
    """

    def critic_loss(self, both: Tensor, points: Tensor) -> Tensor:
        """Returns mean f(G(z)) - mean f(x) + lambda mean (|grad f| - 1)^2, of real and generated [2B, D] and points [B, D]."""
        weights, biases = self.critic[::2], self.critic[1::2]
        outputs = []
        with torch.no_grad():
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                points = torch.addmm(bias, points, weight.t()).relu_()
                outputs.append(points)
        gradient = weights[-1].expand_as(points)
        for weight, output in zip(reversed(weights[:-1]), reversed(outputs), strict=True):
            gradient = torch.mm(torch.ops.aten.threshold_backward(gradient, output, 0), weight)
        penalty = (torch.linalg.vector_norm(gradient, dim=1) - 1).square().mean()
        return torch.dot(self.apply("critic", both).view(-1), self.signs) + self.settings.penalty_weight * penalty


class Modules(Functional):
    """The idiom: nn.Sequential, torch.optim.Adam(fused=True), zero_grad(set_to_none=True), backward()."""

    def prepare(self) -> None:
        """Moves the parameters into modules and makes the optimizers."""
        self.modules = {"critic": _sequential(self.critic), "generator": _sequential(self.generator)}
        self.critic, self.generator = (list(module.parameters()) for module in self.modules.values())
        self.critic_adam, self.generator_adam = (
            torch.optim.Adam(parameters, rate, betas, EPSILON, fused=True)
            for parameters, (rate, *betas) in (
                (self.critic, self.settings.critic),
                (self.generator, self.settings.generator),
            )
        )

    def apply(self, player: str, x: Tensor) -> Tensor:
        """Returns the outputs of a network, [..., out]."""
        return self.modules[player](x)

    def critic_update(self, both: Tensor, points: Tensor, rate: float) -> None:
        """Takes one critic update."""
        self.critic_adam.param_groups[0]["lr"] = rate
        self.critic_adam.zero_grad(set_to_none=True)
        self.critic_loss(both, points).backward(inputs=self.critic)
        self.critic_adam.step()

    def generator_update(self, latents: Tensor, rate: float) -> None:
        """Takes one generator update."""
        self.generator_adam.param_groups[0]["lr"] = rate
        self.generator_adam.zero_grad(set_to_none=True)
        self.generator_loss(latents).backward(inputs=self.generator)
        self.generator_adam.step()


def _sequential(parameters: list[Tensor]) -> Any:
    modules: list[Any] = []
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight, linear.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


class Flat:
    """A player for the update by hand: parameters, gradients and Adam's moments as one vector each, and views of them."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.flat_gradient, self.moments = torch.zeros_like(self.flat), Moments.of([self.flat])
        self.parameters, gradients = (
            [part.view(p.shape) for part, p in zip(flat.split([q.numel() for q in parameters]), parameters, strict=True)]
            for flat in (self.flat, self.flat_gradient)
        )
        self.weights, self.biases = self.parameters[::2], self.parameters[1::2]
        self.transposed = [weight.t() for weight in self.weights]
        self.weight_gradients, self.bias_gradients = gradients[::2], gradients[1::2]

    def hidden(self, x: Tensor, out: list[Tensor]) -> None:
        """Writes the hidden layers' outputs, [B, width] each."""
        for bias, weight, h in zip(self.biases, self.transposed, out, strict=False):
            torch.addmm(bias, x, weight, out=h)
            x = h.relu_()

    def backward(self, h: list[Tensor], gradients: list[Tensor]) -> None:
        """Turns the gradient at the last hidden output, in gradients[-1], into those at every layer before its ReLU."""
        for index in range(len(h) - 1, -1, -1):
            threshold_backward(gradients[index], h[index], 0, grad_input=gradients[index])
            if index:
                torch.mm(gradients[index], self.weights[index], out=gradients[index - 1])

    def descend(self, rate: float, beta1: float, beta2: float) -> None:
        """Takes a step of Adam."""
        adam([self.flat], [self.flat_gradient], self.moments, rate, beta1, beta2)


class ByHand(Functional):
    """No autograd: the first and second derivatives of the perceptrons written out, into buffers allocated once.

    A single forward and a single backward pass of the critic serve real, generated and interpolated examples, [3B]: row by
    row the score's cotangent is -1/B, 1/B and 1, so that the last third of the backward pass is the penalty's input gradient.
    ReLU has no second derivative, so the penalty's own backward pass is a forward pass of its cotangent v through the layers
    without biases, with the same units on. It overwrites the interpolates' rows of every layer's input, and one product per
    layer then gives the gradient of loss and penalty together. The matmuls are the minimum that benchmarks/toy.py counts.
    """

    inference = True

    def prepare(self) -> None:
        """Allocates every buffer of the size of a layer's output."""
        s = self.settings
        size, count, dim = s.batch_size, s.n_critic, self.centres.shape[1]
        self.critic_player, self.generator_player = Flat(self.critic), Flat(self.generator)
        self.critic, self.generator = self.critic_player.parameters, self.generator_player.parameters
        self.flat_ema = self.generator_player.flat.clone()
        self.ema = [p.view(q.shape) for p, q in zip(self.flat_ema.split([q.numel() for q in self.ema]), self.ema, strict=True)]

        def buffers(player: Flat, rows: int) -> list[Tensor]:
            return [torch.empty(rows, len(bias)) for bias in player.biases[:-1]]

        self.fake_hidden = buffers(self.generator_player, count * size)
        self.x = torch.empty(count, 3 * size, dim)
        self.views = [(x, x[2 * size :]) for x in self.x]
        self.cotangent = torch.cat([self.signs, torch.ones(size)])[:, None]
        self.hidden = buffers(self.critic_player, 3 * size)
        self.hidden_points = [h[2 * size :] for h in self.hidden]
        self.gradients = buffers(self.critic_player, 3 * size)
        self.gradients_loss = [g[: 2 * size] for g in self.gradients]
        self.gradient_points = self.gradients[0][2 * size :]
        self.pushed = buffers(self.critic_player, size)
        self.generator_cotangent = torch.full((size, 1), -1 / size)
        self.generator_hidden, self.generator_gradients = (buffers(self.generator_player, size) for _ in range(2))
        self.critic_hidden, self.critic_gradients = (buffers(self.critic_player, size) for _ in range(2))

    def critic_phase(self, noise: Noise, rate: float) -> None:
        """Takes n_critic critic updates."""
        size, generator = self.settings.batch_size, self.generator_player
        generator.hidden(noise.latents.view(-1, self.settings.latent_dim), self.fake_hidden)
        fake = torch.addmm(generator.biases[-1], self.fake_hidden[-1], generator.transposed[-1]).view_as(noise.real)
        self.x[:, :size] = noise.real
        self.x[:, size : 2 * size] = fake
        torch.lerp(fake, noise.real, noise.epsilons, out=self.x[:, 2 * size :])
        for x, points in self.views:
            self.critic_update(x, points, rate)

    def critic_update(self, both: Tensor, points: Tensor, rate: float) -> None:
        """Takes one critic update. `both` holds the points too, [3B, D], and `points` is its last third."""
        player, h, gradients = self.critic_player, self.hidden, self.gradients
        player.hidden(both, h)
        torch.mm(self.cotangent, player.weights[-1], out=gradients[-1])
        player.backward(h, gradients)
        slope = torch.mm(self.gradient_points, player.weights[0])
        norm = torch.linalg.vector_norm(slope, dim=1, keepdim=True).clamp_min_(1e-30)
        factor = (1 - norm.reciprocal_()).mul_(2 * self.settings.penalty_weight / len(points))
        v = torch.mul(slope, factor, out=points)
        for weight, pushed, h_points in zip(player.transposed, self.pushed, self.hidden_points, strict=False):
            torch.mm(v, weight, out=pushed)
            v = threshold_backward(pushed, h_points, 0, grad_input=h_points)
        for index, (gradient, layer_input) in enumerate(zip(gradients, (both, *h), strict=False)):
            torch.mm(gradient.t(), layer_input, out=player.weight_gradients[index])
            torch.sum(self.gradients_loss[index], 0, out=player.bias_gradients[index])
        torch.mm(self.cotangent.t(), h[-1], out=player.weight_gradients[-1])  # its bias' gradient is zero
        player.descend(rate, *self.settings.critic[1:])

    def generator_update(self, latents: Tensor, rate: float) -> None:
        """Takes one generator update."""
        generator, critic = self.generator_player, self.critic_player
        h, gradients = self.generator_hidden, self.generator_gradients
        generator.hidden(latents, h)
        x = torch.addmm(generator.biases[-1], h[-1], generator.transposed[-1])
        critic.hidden(x, self.critic_hidden)
        torch.mm(self.generator_cotangent, critic.weights[-1], out=self.critic_gradients[-1])
        critic.backward(self.critic_hidden, self.critic_gradients)
        gradient_x = torch.mm(self.critic_gradients[0], critic.weights[0])
        torch.mm(gradient_x, generator.weights[-1], out=gradients[-1])
        generator.backward(h, gradients)
        for index, (gradient, layer_input) in enumerate(zip((*gradients, gradient_x), (latents, *h), strict=True)):
            torch.mm(gradient.t(), layer_input, out=generator.weight_gradients[index])
            torch.sum(gradient, 0, out=generator.bias_gradients[index])
        generator.descend(rate, *self.settings.generator[1:])

    def average(self, weight: float) -> None:
        """Moves the average of the generator's parameters."""
        self.flat_ema.lerp_(self.generator_player.flat, weight)


VARIANTS: dict[str, type[Functional]] = {
    "modules": Modules,
    "functional": Functional,
    "half_by_hand": HalfByHand,
    "by_hand": ByHand,
}


class Server:
    """Answers requests; see the module's docstring."""

    def __init__(self) -> None:
        self.updates: dict[str, Functional] = {}  # by variant, each with parameters of its own
        self.threads = torch.get_num_threads()  # torch's own choice

    def hello(self) -> dict[str, Any]:
        """Returns what is here."""
        return {"torch": torch.__version__, "threads": self.threads, "variants": list(VARIANTS)}

    def load(self, file: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Makes every variant's update anew."""
        numbers = Settings(**settings)
        torch.set_default_dtype(getattr(torch, numbers.dtype))
        torch.manual_seed(0)
        with np.load(file, allow_pickle=False) as stored:
            self.updates = {
                variant: make(numbers, read(stored, "critic"), read(stored, "generator")) for variant, make in VARIANTS.items()
            }
        return {}

    def run(self, variant: str, threads: int, seconds: float) -> dict[str, Any]:
        """Takes an update, and then more, one at least, until so many seconds have passed."""
        torch.set_num_threads(threads)
        one, done = self.updates[variant], 0
        with torch.inference_mode(one.inference):
            one.update(one.draw())
            start = time.perf_counter()
            while done == 0 or time.perf_counter() - start < seconds:
                one.update(one.draw())
                done += 1
            return {"updates": done, "seconds": time.perf_counter() - start}

    def check(self, variant: str, file: str, out: str) -> dict[str, Any]:
        """Takes one update on given noise; without generator_latents in the file, the critic's updates alone."""
        one = self.updates[variant]
        with np.load(file, allow_pickle=False) as stored, torch.inference_mode(one.inference):
            real, latents, epsilons = (torch.from_numpy(stored[name]) for name in ("real", "latents", "epsilons"))
            if "generator_latents" in stored:
                one.update(Noise(real, latents, epsilons, torch.from_numpy(stored["generator_latents"])))
            else:
                one.critic_phase(Noise(real, latents, epsilons, latents[0]), one.settings.critic[0])
        after = {"critic": one.critic, "generator": one.generator, "ema": one.ema}
        arrays = {f"{name}_{i}": p.detach().numpy() for name, player in after.items() for i, p in enumerate(player)}
        np.savez(out, **arrays)
        return {}


def read(stored: Any, player: str) -> list[Tensor]:
    """Returns copies of a player's parameters, on the default device."""
    count = sum(name.startswith(f"{player}_") and name.removeprefix(f"{player}_").isdigit() for name in stored)
    return [torch.tensor(stored[f"{player}_{index}"]) for index in range(count)]


def serve(server: Any) -> None:
    """Answers the requests on stdin until it ends."""
    requests = {name: getattr(server, name) for name in ("hello", "load", "run", "check")}
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer = requests[request.pop("do")](**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Server())
