"""Expressions: ranges, signs and sums name exactly the units they say, and text with two meanings is refused."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from gen_prior.classifiers import Classifier
from gen_prior.errors import GenPriorError, TargetError
from gen_prior.objectives.expressions import parse_targets, single_target
from gen_prior.objectives.mixes import Mix
from gen_prior.objectives.targets import Target, parse_target


def labelled(tiny_classifier: Classifier, *labels: str) -> Classifier:
    return Classifier(tiny_classifier.network, input_size=32, labels=labels, name="tiny")


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("ant", ["logits:0"]),
        ("3", ["logits:3"]),
        ("golden-retriever", ["logits:3"]),
        ("pool:*", [f"pool:{unit}@0,0" for unit in range(12)]),
        ("conv2:9-11@mean", ["conv2:9@mean", "conv2:10@mean", "conv2:11@mean"]),
        ("conv2:1,5, 2-3 ,5@0,15", [f"conv2:{unit}@0,15" for unit in (1, 5, 2, 3)]),
        ("logits:0-1", ["logits:0", "logits:1"]),
        ("conv*:3", ["conv1:3@16,16", "conv2:3@8,8"]),
        ("conv?:3@mean", ["conv1:3@mean", "conv2:3@mean"]),
        ("**:4@mean", []),
        ("-conv2:1-2@mean", ["-conv2:1@mean", "-conv2:2@mean"]),
        ("-ant", ["-logits:0"]),
        ("- conv2:7", ["-conv2:7@8,8"]),
        ("-logits:1", ["-logits:1"]),
        ("ant+bee", ["logits:0 + logits:1"]),
        ("0.7*ant-cup", ["0.7*logits:0 - logits:4"]),
        ("-ant-2*bee", ["-logits:0 - 2*logits:1"]),
        ("1*ant", ["logits:0"]),
        ("+ant", ["logits:0"]),
        ("1e-2*ant + .5 * conv2:1@mean", ["0.01*logits:0 + 0.5*conv2:1@mean"]),
        ("golden retriever-crane-bird", ["logits:3 - logits:2"]),
        ("conv2:7-conv2:9", ["conv2:7@8,8 - conv2:9@8,8"]),
        ("logits:golden retriever+logits:bee", ["logits:3 + logits:1"]),
    ],
)
def test_expressions(text: str, units: list[str], tiny_classifier: Classifier) -> None:
    if text.startswith("**"):  # every layer has a unit 4 but the logits' neighbours lack positions
        with pytest.raises(TargetError, match="no positions"):
            parse_targets(text, tiny_classifier)
        return
    found = parse_targets(text, tiny_classifier)
    assert [str(target) for target in found] == units
    assert [parse_targets(str(target), tiny_classifier) for target in found] == [[target] for target in found]
    assert parse_targets(found, tiny_classifier) == found


def test_what_a_mix_reads_and_maximises(tiny_classifier: Classifier) -> None:
    activations = tiny_classifier.activations(torch.rand(3, 3, 32, 32), ["logits", "conv2"])
    logits, unit = activations["logits"], activations["conv2"][:, 7].mean((1, 2))
    mix = single_target("0.5*ant - 2*conv2:7@mean", tiny_classifier)
    assert isinstance(mix, Mix)
    assert mix.layers == ("logits", "conv2")
    torch.testing.assert_close(mix.read(activations), 0.5 * logits[:, 0] - 2 * unit)
    torch.testing.assert_close(mix.score(activations), 0.5 * logits[:, 0] - 2 * unit)
    least = single_target("-bee", tiny_classifier)
    torch.testing.assert_close(least.read(activations), logits[:, 1])
    torch.testing.assert_close(least.score(activations), -logits[:, 1])


def test_names_for_people_and_for_files(tiny_classifier: Classifier) -> None:
    named = {
        "-ant": ("-ant", "minus-ant"),
        "-conv2:7@mean": ("-conv2:7@mean", "minus-conv2-7-mean"),
        "ant+bee": ("ant + bee", "ant-plus-bee"),
        "0.7*golden retriever-conv2:1@mean": ("0.7*golden retriever - conv2:1@mean",
                                              "0.7-golden-retriever-minus-conv2-1-mean"),
    }  # fmt: skip
    for text, (name, slug) in named.items():
        target = single_target(text, tiny_classifier)
        assert (target.name, target.slug) == (name, slug)
    described = single_target("0.7*ant-cup", tiny_classifier).to_dict()
    assert described["target"] == "0.7*logits:0 - logits:4"
    assert [(term["weight"], term["name"], term["unit"]) for term in described["terms"]] == [
        (0.7, "ant", 0),
        (-1.0, "cup", 4),
    ]


def test_an_exact_label_is_that_class(tiny_classifier: Classifier) -> None:
    labels = ("-ant", "ant", "a+b", "3*x", "conv2:*")
    classifier = labelled(tiny_classifier, *labels)
    assert [parse_targets(label, classifier) for label in labels] == [
        [Target("logits", index, None, label)] for index, label in enumerate(labels)
    ]
    assert [str(target) for target in parse_targets(["-3*x", "--ant", "2*3*x-a+b"], classifier)] == [
        "-logits:3",
        "-logits:0",
        "2*logits:3 - logits:2",
    ]


def test_two_readings_are_refused(tiny_classifier: Classifier) -> None:
    classifier = labelled(tiny_classifier, "a", "b", "c", "a+b", "b c")
    with pytest.raises(TargetError, match=r"'a' and '\+b' and '-c' or as .*'a\+b' and '-c'|'a' and .* or as "):
        parse_targets("a+b-c", classifier)
    with pytest.raises(TargetError, match=r"can be read as 'b' and '-c' or as 'b-c'. Fix: name classes by number"):
        parse_targets("b-c", classifier)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty target"),
        ("-1", "write logits:1"),
        ("ant+1", "write logits:1"),
        ("golden-retreiver", "did you mean golden retriever"),
        ("-beee", "unknown class 'beee'; did you mean bee"),
        ("ant+cupp", "unknown class 'cupp'; did you mean cup"),
        ("conv2:0-63", "units 0 to 11"),
        ("conv2:5-3", "write 3-5"),
        ("conv2:0-99999", "names 100000 targets, at most 1000"),
        ("conf*:3", "no layer of tiny matches 'conf*'"),
        ("conv3:*", "did you mean conv2, conv1"),
        ("*:10", "units 0 to 7"),
        ("ant+conv2:1-3", "a term of a mix is one unit, but 'conv2:1-3' names 3"),
        ("ant-ant", "names logits:0 twice"),
        ("0*ant", "a weight must lie between"),
        ("1e999*ant", "a weight must lie between"),
        ("ant--bee", "unknown class"),
        ("+", "a sign without a target"),
        ("conv2:-1", "must be a number"),
        ("conv2:7-9-11", "a number alone"),
    ],
)
def test_refusals(text: str, says: str, tiny_classifier: Classifier) -> None:
    with pytest.raises(GenPriorError) as caught:
        parse_targets(text, tiny_classifier)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_where_one_is_needed(tiny_classifier: Classifier) -> None:
    with pytest.raises(TargetError, match=r"names 4 targets, one is needed\. Fix: name one, such as conv2:0"):
        single_target("conv2:0-3", tiny_classifier)
    with pytest.raises(TargetError, match="has a sign"):
        parse_target("-ant", tiny_classifier)


def test_runs_of_a_layer(tiny_classifier: Classifier) -> None:
    relu = nn.ReLU()
    network = nn.Sequential(
        OrderedDict(a=nn.Conv2d(3, 4, 3), relu=relu, b=nn.Conv2d(4, 5, 3), again=relu, end=nn.AdaptiveAvgPool2d(1))
    )
    classifier = Classifier(nn.Sequential(network, nn.Flatten(), nn.Linear(5, 3)), input_size=16, name="shared")
    runs = [name for name in classifier.layers() if "#" in name]
    assert runs, "the layer runs twice"
    text = f"-{runs[0]}:1-2@mean"
    assert [str(target) for target in parse_targets(text, classifier)] == [f"-{runs[0]}:{n}@mean" for n in (1, 2)]
    assert str(single_target(f"{runs[0]}:1@mean-0.a:3@mean", classifier)) == f"{runs[0]}:1@mean - 0.a:3@mean"


def test_all_classes_of_a_real_classifier(lite0: Classifier) -> None:
    assert lite0.labels is not None
    names = [name for name in lite0.labels if name.lower() not in ("crane", "cardigan", "maillot")]
    assert [str(single_target(name, lite0)) for name in names] == [
        f"logits:{lite0.labels.index(name)}" for name in names
    ]
    assert [target.name for target in parse_targets("goldfish-T-shirt+jack-o'-lantern", lite0)] == [
        "goldfish - jersey + jack-o'-lantern"
    ]
    with pytest.raises(TargetError, match=r"'blocks\.\*\*:\*' names \d+ targets, at most 1000 are allowed"):
        parse_targets("blocks.**:*", lite0)
