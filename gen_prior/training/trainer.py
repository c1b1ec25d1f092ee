"""The one training loop: averaged weights, learning-rate schedule, precision, checkpoints, log, sheets.

All random draws are functions of (seed, step), so a resumed run follows the same trajectory.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from gen_prior.errors import DivergedError, OptionError
from gen_prior.training.checkpoints import latest_checkpoint, save_checkpoint
from gen_prior.training.settings import TrainingSettings, differences, mixed_precision
from gen_prior.util.files import as_output_errors, write_bytes
from gen_prior.util.image_io import write_png

LOG = "log.jsonl"
WARMUP = 100
"""Steps over which the learning rates rise linearly."""
StepReport = dict[str, Any]
"""One line of the log: step, seconds, images_per_second and the mean losses since the last; checkpoint (bool), steps
(of the whole run)."""
ReportCallback = Callable[[StepReport], None]
log = logging.getLogger(__name__)


class LoopOptions(TypedDict, total=False):
    """Options of `Trainer.run` that a stage passes on."""

    log_every: int
    """Steps between reports; 50 if not given."""
    checkpoint_seconds: float
    """Least seconds between checkpoints; 240 if not given."""
    report: ReportCallback | None
    """Called with each report."""


class Trainer:
    """Trains `networks` and keeps an exponential moving average of each.

    A subclass fills `networks` (by `train_networks`) and `optimisers`, and updates them in `update`.
    """

    settings: TrainingSettings
    hook_layers: tuple[str, ...] = ()
    """Classifier layers whose features are read."""

    def __init__(self, settings: TrainingSettings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.step = 0
        self.seconds = 0.0
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        torch.manual_seed(settings.seed)

    def train_networks(self, **networks: nn.Module) -> None:
        """Set the networks that are optimised, and their averages."""
        self.networks = networks
        self.averages = {name: deepcopy(network).requires_grad_(False) for name, network in networks.items()}

    def run(
        self,
        out: Path,
        *,
        resume: bool,
        sheet: Callable[[], Tensor] | None = None,
        log_every: int = 50,
        checkpoint_seconds: float = 240.0,
        report: ReportCallback | None = None,
    ) -> None:
        """Train to the end, from the newest checkpoint in `out` if `resume`.

        Every `log_every` steps a report is appended to `log.jsonl`; the first after `checkpoint_seconds` and the last
        come with a checkpoint and a `sheet`.
        Raises `DivergedError` if a loss or weight is not finite, `OptionError` if the run in `out` has other settings,
        `WeightsError` if all its checkpoints are damaged, `OutputError` if `out` cannot be written to.
        """
        if resume:
            self._go_on(out)
        with as_output_errors(out / LOG):
            truncate_log(out / LOG, self.step)
        last = saved = time.monotonic()
        sums: dict[str, Tensor] = {}
        count = 0
        while self.step < self.settings.steps:
            for name, value in self.train_step().items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            self.step += 1
            count += 1
            at_end = self.step == self.settings.steps
            if self.step % log_every and not at_end:
                continue
            losses = {name: float(value) / count for name, value in sums.items()} | self.validate()
            now = time.monotonic()
            due = now - saved > checkpoint_seconds or at_end
            self._check_finite(losses, out, weights=due)
            self.seconds += now - last
            rate = count * self.settings.batch / max(now - last, 1e-9)
            record: StepReport = {"step": self.step, "seconds": round(self.seconds, 1)}
            record |= {"images_per_second": round(rate, 1)} | {name: round(loss, 5) for name, loss in losses.items()}
            with as_output_errors(out / LOG), (out / LOG).open("a") as lines:
                lines.write(json.dumps(record, allow_nan=False) + "\n")
            if due:
                save_checkpoint(out, self.step, self.state())
                if sheet is not None:
                    write_png(out / "sheet.png", sheet())
                saved = now
            last, sums, count = now, {}, 0
            if report is not None:
                report(record | {"checkpoint": due, "steps": self.settings.steps})

    def _go_on(self, out: Path) -> None:
        """Load the newest checkpoint in `out`."""
        state = latest_checkpoint(out)
        if state is None:
            log.warning("%s holds no checkpoint; training starts at its first step", out)
            return
        different = differences(self.settings, state["settings"], but=("steps", "precision"))
        if tuple(state["hook_layers"]) != self.hook_layers:
            different.append(f"the layers {state['hook_layers']}, not {list(self.hook_layers)}")
        if different:
            raise OptionError(f"the run in {out} has {different[0]}", fix="pass the same settings, or another --out")
        self.load_state(state)

    def _check_finite(self, losses: dict[str, float], out: Path, *, weights: bool) -> None:
        """Raises `DivergedError` unless all losses, and the weights if asked, are finite."""
        bad = [f"the loss {name} is {loss}" for name, loss in losses.items() if not math.isfinite(loss)]
        if weights and not bad:
            tensors = [value for module in self._modules().values() for value in module.state_dict().values()]
            finite = torch.stack([value.isfinite().all() for value in tensors]).all()
            bad = [] if finite else ["weights are not finite"]
        if bad:
            raise DivergedError(
                f"training diverged before step {self.step}: {bad[0]}; the last checkpoint in {out} is intact",
                fix="train in another folder with a lower rate",
            )

    def train_step(self) -> dict[str, Tensor]:
        """Set the learning rates, update the networks and then their averages; return the losses by name."""
        self._set_learning_rates()
        seed = self.settings.seed * 1_000_003 + 7_919 * self.step + 1
        losses = self.update(torch.Generator().manual_seed(seed))
        self._update_averages()
        return losses

    def update(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Update the networks once, with random draws from `generator`; return losses, still on the device."""
        raise NotImplementedError

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
        return mixed_precision(self.settings.precision, self.device)

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


def truncate_log(path: Path, step: int) -> None:
    """Drop the reports after `step`, which a resumed run makes again, and a torn last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, LookupError, TypeError):
            continue
    write_bytes(path, "".join(kept).encode())
