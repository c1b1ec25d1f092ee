"""`gen-prior calibrate GENERATOR IMAGES...`: statistics of a generator's codes of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gen_prior.cli.shared import options
from gen_prior.cli.shared.output import console, print_json, print_remark
from gen_prior.cli.shared.progress import ProgressBar


def run(
    generator: Annotated[
        str, typer.Argument(metavar="GENERATOR", show_default=False, help="A generator with an encoder.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", show_default=False, help="Image files, or folders of them.")
    ],
    covariance: Annotated[
        bool, typer.Option("--covariance", help="Also measure the full covariance of the code.")
    ] = False,
    batch: Annotated[int, typer.Option("--batch", help="Images at a time.")] = 16,
    device: options.Device = "auto",
    settings: options.Settings = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure mean, standard deviation and range of each code dimension, and store them with the weights.

    Later runs use them as the bounds and the Gaussian prior of codes.

    Example: [bold]gen-prior calibrate deepsim-fc6 photographs/[/bold]
    """
    from gen_prior.generators import load_generator
    from gen_prior.generators.code_statistics import calibrate, save, statistics_path

    network = load_generator(generator, device=device, **options.parse_settings(settings))
    statistics_path(network.provenance)  # raises before hours of encoding, not after
    bad: list[str] = []

    def left_out(message: str) -> None:
        bad.append(message)
        print_remark(f"left out: {message}", quiet=quiet)

    with ProgressBar(quiet) as bar:
        statistics = calibrate(
            network, images, covariance=covariance, batch_size=batch, on_bad=left_out, progress=bar.show
        )
    path = save(statistics, network)
    bound = statistics.mean + 3 * statistics.std
    values = {
        "generator": network.name,
        "images": statistics.images,
        "left_out": len(bad),
        "units": statistics.mean.numel(),
        "mean": float(statistics.mean.mean()),
        "std": float(statistics.std.mean()),
        "minimum": float(statistics.minimum.min()),
        "maximum": float(statistics.maximum.max()),
        "bound": float(bound.mean()),
        "file": str(path),
    }
    if as_json:
        print_json(values)
        return
    if not quiet:
        left = f" ({len(bad)} left out)" if bad else ""
        words = (
            "{images} images" + left + ", {units} units: mean {mean:.4g}, std {std:.4g}, range {minimum:.4g} to "
            "{maximum:.4g}, mean + 3 std {bound:.4g}\n{file}"
        )
        console.print(words.format(**values), markup=False, soft_wrap=True)
