"""Base of all trainers: networks with averaged weights, learning-rate schedule, precision, checkpoints and log.

All random draws are functions of (seed, step), so a resumed run follows the same trajectory.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.training.checkpoints import save_checkpoint
from gen_prior.training.settings import TrainingSettings

WARMUP = 100
"""Steps over which the learning rates rise linearly."""
StepReport = dict[str, Any]
"""One line of the log: step, seconds, images_per_second and the mean losses since the last; checkpoint (bool), steps
(of the whole run)."""
ReportCallback = Callable[[StepReport], None]


class BaseTrainer(ABC):
    """Trains `networks` and keeps an exponential moving average of each; `run` is the training loop.

    A subclass fills `networks` (by `train_networks`) and `optimisers`, and updates them in `_update`.
    """

    settings: TrainingSettings
    hook_layers: tuple[str, ...] = ()
    """Classifier layers whose features are read."""

    def __init__(self, settings: TrainingSettings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.step = 0
        self.seconds = 0.0
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    def train_networks(self, **networks: nn.Module) -> None:
        """Set the networks that are optimised, and their averages."""
        self.networks = networks
        self.averages = {name: deepcopy(network).requires_grad_(False) for name, network in networks.items()}

    def run(self, out: Path, *, log_every: int = 50, checkpoint_seconds: float = 240.0) -> Iterator[StepReport]:
        """Train from `self.step` to `settings.steps`; yield a report every `log_every` steps.

        Reports are appended to `log.jsonl` in `out`; a checkpoint is saved with the first report after
        `checkpoint_seconds`, and at the end.
        """
        last = saved = time.monotonic()
        sums: dict[str, Tensor] = {}
        count = 0
        while self.step < self.settings.steps:
            for name, value in self.train_step().items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            self.step += 1
            count += 1
            at_end = self.step == self.settings.steps
            if self.step % log_every == 0 or at_end:
                now = time.monotonic()
                self.seconds += now - last
                rate = count * self.settings.batch / max(now - last, 1e-9)
                last = now
                report = {"step": self.step, "seconds": round(self.seconds, 1), "images_per_second": round(rate, 1)}
                report |= {name: round(float(value) / count, 5) for name, value in sums.items()}
                report |= self.validate()
                sums, count = {}, 0
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(report) + "\n")
                due = now - saved > checkpoint_seconds or at_end
                if due:
                    save_checkpoint(out, self.step, self.state())
                    saved = now
                yield report | {"checkpoint": due, "steps": self.settings.steps}

    def train_step(self) -> dict[str, Tensor]:
        """Set the learning rates, update the networks and then their averages; return the losses by name."""
        self._set_learning_rates()
        seed = self.settings.seed * 1_000_003 + 7_919 * self.step + 1
        losses = self._update(torch.Generator().manual_seed(seed))
        self._update_averages()
        return losses

    @abstractmethod
    def _update(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Update the networks once, with random draws from `generator`; return losses, still on the device."""

    def _step_optimiser(self, loss: Tensor, name: str = "networks", max_norm: float | None = None) -> None:
        """Minimise `loss` by one step of an optimiser, the gradient's norm clipped to `max_norm`."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], max_norm)
        optimiser.step()

    def validate(self) -> dict[str, float]:
        """Further entries of a report, such as losses on held-out photographs."""
        return {}

    def state(self) -> dict[str, Any]:
        """The state that a resumed run needs, as tensors and plain values (so that `weights_only` can read it)."""
        return {
            "modules": {name: module.state_dict() for name, module in self._modules().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "hook_layers": list(self.hook_layers),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of another run."""
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.step, self.seconds = state["step"], state["seconds"]

    def _modules(self) -> dict[str, nn.Module]:
        """All modules that a checkpoint holds, by name."""
        averages = {f"{name}_average": network for name, network in self.averages.items()}
        return {**self.networks, **averages}

    def autocast(self) -> AbstractContextManager[object]:
        """Context of the networks' forward passes: mixed precision if the settings ask for it."""
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def learning_rate(self, optimiser: str) -> float:
        """Learning rate of an optimiser between warm-up and cooldown."""
        return self.settings.rate

    def _set_learning_rates(self) -> None:
        """Linear warm-up, then constant, then linear cooldown to a twentieth."""
        settings = self.settings
        left = (settings.steps - self.step) / max(1, round(settings.steps * settings.cooldown))
        factor = max(0.05, min(1.0, left)) * min(1.0, (self.step + 1) / WARMUP)
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate(name) * factor * group.get("factor", 1.0)

    @torch.no_grad()
    def _update_averages(self) -> None:
        """Exponential moving average of the weights, with a shorter memory in the first steps."""
        decay = min(self.settings.ema, (self.step + 1) / (self.step + 10))
        for name, network in self.networks.items():
            torch._foreach_lerp_(list(self.averages[name].parameters()), list(network.parameters()), 1 - decay)
