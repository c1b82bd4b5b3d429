"""Many latents at once, by descent through a frozen generator, until its pictures mean what a reference does.

Liu et al. 2018, section 3. Latent k of a seed begins where (seed, k) says and meets the noise that (seed, k) says,
whatever others are solved beside it: neither generator nor features may look from one picture of a batch at another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor, nn

from .generator import Prior, draw
from .latents import plausible, random_of
from .stepping import Gradients

Render = Callable[[Tensor], Tensor]
"""`(N, Z)` latents to `(N, 3, H, W)` in [-1, 1]."""

EPSILON = 1e-12
"""Of Adam; losses are means over many elements, and their gradients far smaller than its usual 1e-8 allows for."""


@dataclass(frozen=True)
class Descent:
    """How latents are sought.

    The noise is normal, a number of the latent at a time, and is added to the gradient as Adam has scaled it, whose
    numbers are of about 1 whatever the network and loss. (Added before, its square would be in Adam's second average:
    the more noise, the shorter the steps, and long after it has ended.) Its standard deviation is `noise`, and falls in
    a straight line to 0 at the share `noisy` of the steps; the rest settle.

    Attributes:
        steps: of each latent, at most.
        rate: of Adam (the released code), `last_rate` of it at the last step, on a straight line.
        momentum, memory: Adam's two averages (the released code).
        noise: at the first step, see above; the paper says that there is noise, not how much.
        noisy: share of the steps.
        tries: random latents that each one begins at the best of.
        alike: all begin where the first one does, so that noise alone makes them differ.
        spare: so many times the pictures wanted are solved in addition, and the best of all are kept.
        patience, tolerance: a latent whose loss has not fallen by that share in so many steps that settle is done.
        together: latents that are solved at once, at most.
    """

    steps: int = 60
    rate: float = 0.09
    last_rate: float = 0.1
    momentum: float = 0.4
    memory: float = 0.99
    noise: float = 3.0
    noisy: float = 0.7
    tries: int = 8
    alike: bool = False
    spare: float = 0.5
    patience: int = 8
    tolerance: float = 2e-3
    together: int = 72

    def level(self, step: int) -> float:
        """Standard deviation of the noise at a step, in scaled gradients."""
        return self.noise * max(0.0, 1 - step / (self.noisy * self.steps)) if self.noise else 0.0

    def settles(self, step: int) -> bool:
        """Whether a step is one of those without noise, whatever its level."""
        return step >= self.noisy * self.steps

    def rate_at(self, step: int) -> float:
        """Adam's rate at a step."""
        return self.rate * (1 - (1 - self.last_rate) * step / max(self.steps - 1, 1))


@dataclass(frozen=True, eq=False)
class Solution:
    """Latents, the best first.

    Attributes:
        latents: `(n, Z)`; losses: `(n,)` of them.
        numbers: which of the seed's latents each is; steps: that each took.
        dropped: numbers of those whose loss was no number at some step.
        tried: how many were solved; backend: what ran the steps; said: why it was not what was asked for, or empty.
        seconds: of the descent; warming: of compiling before it, not counted among them.
    """

    latents: Tensor
    losses: Tensor
    numbers: Sequence[int]
    steps: Sequence[int]
    dropped: Sequence[int]
    tried: int
    backend: str
    said: str
    seconds: float
    warming: float


def solve(
    render: Render,
    objective: nn.Module,
    prior: Prior,
    latent: int,
    count: int,
    descent: Descent = Descent(),
    seed: int = 0,
    *,
    device: str | torch.device = "cpu",
    compiled: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Solution:
    """The best latents of a generator for an objective.

    Args:
        render: the generator's network, frozen; objective: pictures to `(N,)` losses, each of its picture alone.
        prior, latent: of the generator: what its latents are, and how many numbers.
        count: latents wanted, at least 1.
        seed: of starts and noise.
        compiled: compile the loss and its gradient first; where that fails the steps run uncompiled, and it is said.
        progress: told of steps done, of how many.

    Returns:
        `count` latents, fewer where so many were dropped.
    """
    total = count + round(count * descent.spare)
    size = -(-total // -(-total // descent.together))  # as even as can be
    parts = [range(start, min(start + size, total)) for start in range(0, total, size)]
    gradients = Gradients(lambda z: objective(render(z)), compiled)
    solved = []
    for number, part in enumerate(parts):

        def told(step: int, before: int = number * descent.steps) -> None:
            progress(before + step, len(parts) * descent.steps)

        flock = _Flock(gradients, prior, latent, part, descent, seed, torch.device(device))
        solved.append(flock.run(size, told))
    progress(len(parts) * descent.steps, len(parts) * descent.steps)
    losses = torch.cat([each.losses for each in solved])
    latents = torch.cat([each.latents for each in solved])
    steps = [step for each in solved for step in each.steps]
    dropped = sorted(number for each in solved for number in each.dropped)
    alive = [number for number in range(total) if number not in set(dropped)]
    order = sorted(alive, key=lambda number: (float(losses[number]), number))[:count]
    return Solution(
        latents[order], losses[order], order, [steps[each] for each in order], dropped, total, gradients.backend,
        gradients.said, sum(each.seconds for each in solved) - gradients.warming, gradients.warming,
    )  # fmt: skip


@dataclass(eq=False)
class _Flock:
    """Latents that are solved together.

    Attributes:
        latents, losses: the best of each so far; steps: taken by each; dropped: numbers of those given up.
    """

    gradients: Gradients
    prior: Prior
    latent: int
    numbers: Sequence[int]
    descent: Descent
    seed: int
    device: torch.device
    steps: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, size: int, told: Callable[[int], None]) -> _Flock:
        """Solves them; `size` is that of the batch, which compiled steps need."""
        began = perf_counter()
        self.randoms = [random_of(self.seed, number) for number in self.numbers]
        z = self._starts()
        self.latents = z.clone()
        self.losses = torch.full((len(z),), torch.inf, device=self.device)
        self.steps = [0] * len(z)
        self._idle = torch.zeros(len(z), dtype=torch.int64, device=self.device)
        first, second = torch.zeros_like(z), torch.zeros_like(z)
        active = torch.arange(len(z), device=self.device)
        plan = self.descent
        for step in range(plan.steps + 1):
            loss, gradient = self.gradients(z[active], size)
            active, gradient = self._judged(step, z, active, loss, gradient)
            if step == plan.steps or not len(active):
                break
            first[active] = plan.momentum * first[active] + (1 - plan.momentum) * gradient
            second[active] = plan.memory * second[active] + (1 - plan.memory) * gradient.square()
            mean = first[active] / (1 - plan.momentum ** (step + 1))
            spread = (second[active] / (1 - plan.memory ** (step + 1))).sqrt() + EPSILON
            move = mean / spread + self._noise(step, active)
            z[active] = plausible(self.prior, z[active] - plan.rate_at(step) * move)
            told(step + 1)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds = perf_counter() - began
        return self

    def _starts(self) -> Tensor:
        """`(n, Z)`: of a few random latents each, the one with the least loss."""
        plan = self.descent
        own = [draw(self.prior, plan.tries, random, self.latent) for random in self.randoms]
        if plan.alike:  # the noise that follows is each one's own all the same
            own = [draw(self.prior, plan.tries, random_of(self.seed, 0), self.latent)] * len(own)
        tries = torch.stack(own, 1).to(self.device)
        if plan.tries == 1:
            return tries[0]
        losses = torch.stack([self.gradients.losses(each) for each in tries])
        best = losses.nan_to_num(torch.inf).argmin(0)
        return tries[best, torch.arange(len(best), device=self.device)]

    def _judged(self, step: int, z: Tensor, active: Tensor, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Those that go on, and their gradients; keeps what is the best so far, and drops what is no number."""
        whole = loss.isfinite() & gradient.isfinite().all(1)
        if not whole.all():
            self.dropped += [self.numbers[each] for each in active[~whole].tolist()]
            active, loss, gradient = active[whole], loss[whole], gradient[whole]
        for each in active.tolist():
            self.steps[each] = step
        before = self.losses[active]
        better = loss < before
        self.losses[active[better]], self.latents[active[better]] = loss[better], z[active[better]]
        fell = loss < before * (1 - self.descent.tolerance)
        settles = self.descent.settles(step)
        self._idle[active] = torch.where(fell, 0, self._idle[active] + 1) if settles else 0
        on = self._idle[active] < self.descent.patience
        return active[on], gradient[on]

    def _noise(self, step: int, active: Tensor) -> Tensor:
        level = self.descent.level(step)
        if not level:
            return torch.zeros(len(active), self.latent, device=self.device)
        noise = torch.stack([torch.randn(self.latent, generator=self.randoms[each]) for each in active.tolist()])
        return noise.to(self.device) * level
