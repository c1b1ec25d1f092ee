"""What every training here shares: networks and their averages, rates, precision, checkpoints, the log.

Every random draw is a function of (seed, step), so a resumed run follows the same trajectory.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gen_prior.training.checkpoints import latest_checkpoint, save_checkpoint
from gen_prior.training.settings import TrainingSettings


class Training(ABC):
    """Holds the networks that are trained and the average of each; `run` yields a record of the losses now and then.

    A subclass fills `networks` (by `train_networks`) and `optimisers`, and says in `_train_step` what a step is.
    """

    settings: TrainingSettings
    taps: tuple[str, ...] = ()
    """The classifier's layers that are read."""

    def __init__(self, settings: TrainingSettings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.step = 0
        self.seconds = 0.0
        self.optimisers: dict[str, torch.optim.Optimizer] = {}

    def train_networks(self, **networks: nn.Module) -> None:
        """The networks that are optimised; the average of each is kept beside it."""
        self.networks = networks
        self.averages = {name: deepcopy(network).requires_grad_(False) for name, network in networks.items()}

    @abstractmethod
    def _train_step(self) -> dict[str, Tensor]:
        """One step; its losses by name, still on the device."""

    def run(self, out: Path, *, log_every: int = 50, checkpoint_seconds: float = 240.0) -> Iterator[dict[str, Any]]:
        """Train from `self.step` to `settings.steps`; checkpoints in `out`; yields a record every `log_every`."""
        last = time.monotonic()
        saved = last
        sums: dict[str, Tensor] = {}
        count = 0
        while self.step < self.settings.steps:
            for name, value in self._train_step().items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            self.step += 1
            count += 1
            if self.step % log_every == 0 or self.step == self.settings.steps:
                now = time.monotonic()
                self.seconds += now - last
                rate = count * self.settings.batch / max(now - last, 1e-9)
                last = now
                record = {"step": self.step, "seconds": round(self.seconds, 1), "images_per_second": round(rate, 1)}
                record |= {name: round(float(value) / count, 5) for name, value in sums.items()}
                record |= self.measured()
                sums, count = {}, 0
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")
                due = now - saved > checkpoint_seconds or self.step == self.settings.steps
                if due:
                    save_checkpoint(out, self.step, self.state())
                    saved = now
                yield record | {"checkpoint": due}

    def measured(self) -> dict[str, float]:
        """What else a record says."""
        return {}

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, tensors and plain numbers only (reads back with `weights_only`)."""
        return {
            "modules": {name: module.state_dict() for name, module in self._modules().items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "taps": list(self.taps),
        }

    def resume(self, out: Path) -> bool:
        """Load the newest readable checkpoint of `out`; False where there is none."""
        state = latest_checkpoint(out)
        if state is None:
            return False
        for name, module in self._modules().items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def _modules(self) -> dict[str, nn.Module]:
        """Everything with a state, by name."""
        averages = {f"{name}_average": network for name, network in self.averages.items()}
        return {**self.networks, **averages}

    def precision(self) -> AbstractContextManager[object]:
        """What the networks are run in."""
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def draws(self) -> torch.Generator:
        """The step's own source of random numbers."""
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + 7_919 * self.step + 1)

    def rate_of(self, optimiser: str) -> float:
        """An optimiser's rate before it falls."""
        return self.settings.rate

    def _set_rates(self) -> None:
        settings = self.settings
        left = (settings.steps - self.step) / max(1, round(settings.steps * settings.cooldown))
        factor = max(0.05, min(1.0, left)) * min(1.0, (self.step + 1) / 100)
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.rate_of(name) * factor * group.get("factor", 1.0)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (self.step + 1) / (self.step + 10))
        for name, network in self.networks.items():
            average_of = self.averages[name]
            torch._foreach_lerp_(list(average_of.parameters()), list(network.parameters()), 1 - decay)
