"""Engines beyond one machine: Parsl (Babuji et al. 2019), which reaches Slurm, PBS, LSF, Kubernetes and clouds.

Parsl only dispatches. The manifest says what is to be made and the records say what is done, so that workers may die,
come and go, and a driver that was stopped goes on.
"""

from __future__ import annotations

import logging
import os
import runpy
import shutil
from collections.abc import Callable
from concurrent.futures import Executor, Future, InvalidStateError
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from gen_prior.atlas.make_shard import make_shard
from gen_prior.atlas.workers import answer, settle
from gen_prior.errors import GenPriorError, MissingExtraError, OptionError
from gen_prior.util.reading import first_line

LOGS = "runinfo"
"""Folder into which Parsl writes its logs unless the configuration says otherwise; here in the folder of the atlas."""
SERVER = "interchange.py"
"""The program of Parsl that its high-throughput executor starts on this machine."""


class ParslEngine(Executor):
    """Makes the shards of an atlas by Parsl: `gp.make_atlas(..., executor=ParslEngine(config, folder))`.

    Workers are processes of the cluster that see `folder` under the same path. They load the networks at their first
    shard and keep them. Use it as a context, which ends the workers; what they have finished is on the disk.

    Args:
        config: a `parsl.config.Config`.
        folder: of the atlas; Parsl's logs go to `runinfo` in it, unless the configuration names another place.

    Raises:
        MissingExtraError: without Parsl. GenPriorError: the configuration cannot be started.
    """

    def __init__(self, config: Any, folder: str | Path) -> None:
        kernel = _parsl("parsl.dataflow.dflow", "DataFlowKernel")
        app = _parsl("parsl.app.python", "PythonApp")
        if config.run_dir == LOGS:
            config.run_dir = str(Path(folder).resolve() / LOGS)
        _find_programs()
        self.width = sum(map(_workers, config.executors))
        try:
            self._kernel = kernel(config)
        except Exception as error:  # of sockets, programs and schedulers
            raise GenPriorError(f"Parsl cannot start: {first_line(error)}", fix="mend the configuration") from error
        self._logs = [one for one in logging.getLogger("parsl").handlers if isinstance(one, logging.FileHandler)]
        self._app = app(answer, data_flow_kernel=self._kernel)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Have a worker run `make_shard(folder, index)`; other functions raise `TypeError`."""
        if function is not make_shard or options:
            raise TypeError("a cluster makes shards of an atlas")
        # Futures of Parsl cannot be cancelled, and their exceptions need not survive the way back.
        future: Future[Any] = Future()
        self._app(str(Path(arguments[0]).resolve()), int(arguments[1])).add_done_callback(
            lambda made: _pass_on(made, future)
        )
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers; the neurons that they have finished are on the disk."""
        self._kernel.cleanup()
        for log in self._logs:  # which Parsl leaves open
            log.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


def load_engine(file: str | Path, folder: str | Path) -> ParslEngine:
    """The engine of a Python file that defines `config`, a `parsl.config.Config`; the file is run.

    Raises `OptionError` for a file that defines none, otherwise as `ParslEngine`.
    """
    kind = _parsl("parsl.config", "Config")
    path = Path(file)
    if not path.is_file():
        raise OptionError(f"no such file: {path}", fix="--executor takes a Python file that defines config")
    try:
        config = runpy.run_path(str(path)).get("config")
    except Exception as error:
        raise OptionError(f"{path} fails with {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(config, kind):
        found = "no config" if config is None else f"a config that is a {type(config).__name__}"
        raise OptionError(f"{path} defines {found}", fix="config = parsl.config.Config(executors=[...])")
    return ParslEngine(config, folder)


def _parsl(module: str, name: str) -> Any:
    """A class of Parsl. Raises `MissingExtraError` without it."""
    try:
        return getattr(__import__(module, fromlist=[name]), name)
    except ImportError as error:
        raise MissingExtraError(
            "clusters need Parsl, which is not installed", fix="pip install 'gen-prior[cluster]'"
        ) from error


def _find_programs() -> None:
    """Put the programs that were installed with Parsl on the path, where an environment was not activated."""
    if shutil.which(SERVER) is None:
        for file in metadata.files("parsl") or []:
            if file.name == SERVER and (place := Path(str(file.locate())).resolve()).is_file():
                os.environ["PATH"] = os.pathsep.join([str(place.parent), os.environ.get("PATH", "")])
                return


def _workers(executor: Any) -> int:
    """Workers that an executor can have at once, as far as it says."""
    provider = getattr(executor, "provider", None)
    blocks = getattr(provider, "max_blocks", 1) * getattr(provider, "nodes_per_block", 1)
    listed = getattr(executor, "available_accelerators", ())
    a_node = getattr(executor, "max_workers_per_node", None) or getattr(executor, "max_threads", None) or len(listed)
    return int(blocks * (a_node if isinstance(a_node, int) and 0 < a_node < 10_000 else 8))


def _pass_on(made: Future[Any], future: Future[Any]) -> None:
    """Give `future` what `made` brought, unless it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    with suppress(InvalidStateError):
        error = made.exception()
        if error is not None:
            future.set_exception(error)
        else:
            settle(future, made.result())
