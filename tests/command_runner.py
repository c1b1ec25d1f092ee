"""Run a command of gen-prior in this process, with stdout apart from stderr."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from gen_prior.cli import app


class Run:
    """The outcome of a command: exit code, stdout, stderr."""

    def __init__(self, *arguments: object) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr

    @property
    def json(self) -> Any:
        """Stdout, which must be JSON and nothing else."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on stderr that begins with the program's name."""
        lines = [line for line in self.err.splitlines() if line.startswith("gen-prior: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]
