"""`gen-prior dataset CLASSIFIER --per-class N`: labelled synthetic images to train on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import gen_prior.defaults as defaults
from gen_prior.cli.shared import options
from gen_prior.cli.shared.classifier_options import with_classifier_options
from gen_prior.cli.shared.output import console, print_json
from gen_prior.cli.shared.progress import ProgressBar
from gen_prior.cli.shared.run_folder import run_folder
from gen_prior.util.words import counted


@with_classifier_options
def run(
    classifier: Annotated[
        str, typer.Argument(metavar="CLASSIFIER", help="The classifier whose classes are synthesised.")
    ],
    per_class: Annotated[int, typer.Option("--per-class", metavar="N", help="Number of images of each class.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--classes", metavar="NAME", help="A class; repeatable. All classes if not given."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="CLASSIFIER", help="Another classifier, which judges every image.")
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            "--filter", metavar="WHICH", help="Keep all images, or those whose class is in the judge's top1 or top5."
        ),
    ] = "all",
    shard_size: Annotated[
        int, typer.Option("--shard-size", help="Images per webdataset shard; 0 for no shards.")
    ] = 1000,
    generator: options.GeneratorName = defaults.GENERATOR,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    out: options.Out = None,
    device: options.Device = "auto",
    batch: options.Batch = None,
    html: options.Html = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    network_options: dict[str, Any],
) -> None:
    """Synthesise labelled images to train on: ImageFolder layout, webdataset shards and a JSON line for each image.

    The same command continues a run that was stopped.
    Animations are made by synth --record.

    Example: [bold]gen-prior dataset efficientnet-lite0 --per-class 20 --classes goldfish --classes monarch
    --judge efficientnet-lite2 --filter top5 --out dreamed[/bold]
    """
    with run_folder(out, "dataset", [classifier], numbered=False) as folder:
        from gen_prior.applications.dataset import make_dataset
        from gen_prior.applications.measurement import check_judge
        from gen_prior.classifiers import load_classifier
        from gen_prior.generators import load_generator
        from gen_prior.report.pages.gallery import keep_gallery

        network = load_classifier(classifier, device=device, **network_options)
        if judge is not None:
            check_judge(judge, network)
        prior = load_generator(generator, device=network.device, **options.generator_options(None, image_size))
        second = load_classifier(judge, device=device) if judge is not None else None
        with ProgressBar(quiet) as bar:
            samples = make_dataset(
                network, prior, folder, classes=classes, per_class=per_class, judge=second, keep=keep,
                batch=batch if batch is not None else 8, shard_size=shard_size, progress=bar.show,
                **options.given(steps=steps),
            )  # fmt: skip
        keep_gallery(folder, html)
    kept = sum(sample.kept for sample in samples)
    if as_json:
        print_json({"out": str(folder), "made": len(samples), "kept": kept})
    elif not quiet:
        words = f"{counted(kept, 'image')} kept of {len(samples):,} made, in {folder}"
        console.print(words, markup=False, soft_wrap=True)
