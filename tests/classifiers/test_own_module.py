"""Networks as people bring them: they stay as they are, wrappers and types do not matter, refusals take one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import gen_prior as gp
from gen_prior.classifiers.own_module import prepared
from gen_prior.errors import GenPriorError, OptionError, TargetError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.bn, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def body(self, x: Tensor) -> Tensor:
        return self.bn(self.c(x)).relu().mean((2, 3))

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.body(x))


def wrapped(network: Any, **options: Any) -> gp.Classifier:
    settings: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3, "input_size": 12, "name": "net"}
    return gp.Classifier(network, **(settings | options))


def run(classifier: gp.Classifier, generator: gp.Generator, *targets: str) -> gp.Result:
    result = gp.synthesize(classifier, list(targets), generator, steps=3, rate=0.05)
    assert (result.activations >= result.start_activations).all()
    assert (result.activations > result.start_activations).any()
    return result


def test_wrapping_leaves_the_network_as_it_was(tiny_generator: gp.Generator) -> None:
    network = Net().train()
    before, keys = copy.deepcopy(network.state_dict()), list(network.state_dict())
    classifier = wrapped(network)
    run(classifier, tiny_generator, "1", "bn:3@mean")
    gp.receptive_field(classifier, "c:3")
    assert isinstance(network.bn, nn.BatchNorm2d)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert list(network.state_dict()) == keys
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        network.fc.weight.zero_()  # training goes on; the classifier keeps what it was given
    assert classifier.network.get_parameter("fc.weight").any()
    here = gp.Classifier(network, input_size=12, in_place=True)
    assert here.network is network
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_network_that_cannot_be_copied_can_be_used_in_place(tiny_generator: gp.Generator) -> None:
    network = Net()
    network.kept = network.body(torch.rand(2, 3, 12, 12))  # part of a graph
    with pytest.raises(OptionError, match=r"cannot be copied: .* Fix: .*in_place=True"):
        wrapped(network)
    run(wrapped(network, in_place=True), tiny_generator, "1")


def test_modes_that_return_nothing(tiny_generator: gp.Generator) -> None:
    class Silent(Net):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)

        def eval(self) -> Any:
            super().eval()

    classifier = wrapped(Silent())
    run(classifier, tiny_generator, "1", "c:2")
    assert not any(module.training for module in classifier.network.modules())

    class SilentDecoder(nn.Linear):
        def eval(self) -> Any:
            super().eval()

        def forward(self, code: Tensor) -> Tensor:
            return super().forward(code).view(-1, 3, 4, 4)

    gp.synthesize(classifier, "1", gp.Generator(SilentDecoder(4, 48), (4,)), steps=1)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant: bool, tiny_generator: gp.Generator) -> None:
    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Any:
            y = checkpoint(lambda z: self.bn(self.c(z)).relu(), x, use_reentrant=reentrant)
            return self.fc(checkpoint(lambda z: z.mean((2, 3)), y, use_reentrant=reentrant))

    torch.manual_seed(0)
    plain = Net()
    network = Checkpointed()
    network.load_state_dict(plain.state_dict())
    targets = ("c:3@mean", "bn:3", "2")
    found, expected = (run(wrapped(part), tiny_generator, *targets) for part in (network, plain))
    torch.testing.assert_close(found.images, expected.images)
    image = torch.rand(1, 3, 12, 12, requires_grad=True)
    network(image).sum().backward()  # checkpointing is as it was outside
    assert image.grad is not None


def test_the_switch_of_timm_for_checkpointing_is_off_in_the_copy() -> None:
    network: Any = timm.create_model("test_resnet", num_classes=4)
    layers = gp.Classifier(network, input_size=32).layers()
    network.set_grad_checkpointing(True)
    assert gp.Classifier(network, input_size=32).layers() == layers
    assert "layer2" in layers, "a stage, which checkpointing runs in parts"
    assert network.grad_checkpointing


class LastOfAll(nn.Module):
    """`function` of the logits of `Net` as the network's output."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.function = Net(), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.net(x))


@pytest.mark.parametrize(
    ("function", "classes"),
    [
        (lambda y: y.softmax(1), 4),
        (lambda y: (y, y.sum()), 4),
        (lambda y: y[:, 0], 1),
        (lambda y: y[:, :1], 1),
        (lambda y: None, None),
        (lambda y: [{"boxes": y}], None),
        (lambda y: {"loss": y.mean()}, None),
        (lambda y: y.mean(), None),
    ],
)
def test_hidden_units_work_whatever_the_output_is(
    function: Callable[[Tensor], Any], classes: int | None, tiny_generator: gp.Generator
) -> None:
    classifier = wrapped(LastOfAll(function))
    run(classifier, tiny_generator, "net.c:3", "net.bn:2@mean")
    if classes is None:
        assert "logits" not in classifier.layers()
        for target in ("1", "logits:1"):
            with pytest.raises(TargetError, match=r"net has no logits: .* Fix: name a unit of a layer"):
                gp.parse_target(target, classifier)
    else:
        assert classifier.classes == classes
        run(classifier, tiny_generator, f"logits:{classes - 1}", "net.fc:1")


def test_logits_of_every_token(tiny_generator: gp.Generator) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.Flatten(2), Swap(), nn.Linear(6, 40))
    classifier = wrapped(network)
    assert classifier.classes == 40
    target = gp.parse_target("30", classifier)
    assert str(target) == "logits:30@token=4"  # the central one of 3 x 3
    image = torch.rand(2, 3, 12, 12)
    logits = classifier(image)
    torch.testing.assert_close(target.read(classifier.activations(image, ["logits"])), logits[:, 4, 30])
    result = gp.synthesize(classifier, "30", tiny_generator, steps=3, rate=0.05, score="log_probability")
    assert result.activations > result.start_activations
    with pytest.raises(TargetError, match="classes 0 to 39"):
        gp.parse_target("40", classifier)


class Swap(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_forwards_that_write_on_themselves_are_folded_and_left_alone(tiny_generator: gp.Generator) -> None:
    class Writing(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.zeros(1))
            self.seen: list[Any] = []
            self.by_name: dict[str, list[Any]] = {"all": []}

        def forward(self, x: Tensor) -> Any:
            y = self.bn(self.c(x))
            self.last = y.detach()
            self.seen.append(y.detach())
            self.by_name["all"].append(y.detach())
            return self.fc(y.relu().mean((2, 3)))

    classifier = wrapped(Writing())
    network = classifier.network
    assert isinstance(network.bn, nn.Identity)
    run(classifier, tiny_generator, "c:3", "2")
    for kept in (network.last, *network.seen, *network.by_name["all"]):  # type: ignore[index, misc]
        assert type(kept) is Tensor


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_cast(dtype: torch.dtype, tiny_generator: gp.Generator) -> None:
    network = Net().to(dtype)
    classifier = wrapped(network)
    run(classifier, tiny_generator, "1", "c:2", "bn:2@mean")
    assert classifier(torch.rand(1, 3, 12, 12)).dtype == torch.float32
    assert network.fc.weight.dtype == dtype


def test_compiled_and_parallel_networks_are_unwrapped(tiny_generator: gp.Generator) -> None:
    torch.manual_seed(0)
    plain = Net()
    inner = copy.deepcopy(plain)
    inner.c = torch.compile(inner.c)  # type: ignore[assignment]
    itself = copy.deepcopy(plain)
    itself.compile()
    image = torch.rand(1, 3, 12, 12)
    expected = wrapped(plain).activations(image, ["c", "logits"])
    for network in (torch.compile(plain), nn.DataParallel(plain), torch.compile(nn.DataParallel(plain)), inner, itself):
        classifier = wrapped(network)
        assert list(classifier.layers()) == ["c", "bn", "fc", "logits"]
        found = classifier.activations(image, ["c", "logits"])
        assert all(torch.equal(found[layer], expected[layer]) for layer in expected)
    run(wrapped(torch.compile(plain)), tiny_generator, "1")
    run(wrapped(torch.compile(plain)), tiny_generator, "c:1")
    assert type(inner.c).__name__ == "OptimizedModule"  # the user's stays compiled


class OneImage(Net):
    def forward(self, x: Tensor) -> Any:
        return self.fc(self.body(x)).view(1, 4)


def test_networks_of_one_image_at_a_time(tiny_generator: gp.Generator) -> None:
    classifier = wrapped(OneImage())
    assert classifier.layers() == {"c": (8, 10, 10), "bn": (8, 10, 10), "fc": (4,), "logits": (4,)}
    result = gp.synthesize(classifier, ["1", "c:2@mean"], tiny_generator, seeds=2, steps=2)
    assert result.settings["batches"] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: wrapped(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), input_size=8).layers(), r"\[2, 3, 8, 8\]: .*"),
        (lambda: wrapped(Net(), mean=(0.5,), std=(0.5,)).layers(), r"\[2, 1, 12, 12\]: .* Fix: .*mean and std"),
        (lambda: wrapped(nn.Linear(2, 2, device="meta")), "without values, on the device 'meta'. Fix: load"),
        (lambda: wrapped("resnet50"), r"made from a torch.nn.Module, got a str. Fix: .*load_classifier\('resnet50'\)"),
    ],
)
def test_bad_networks_take_one_line(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(GenPriorError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_several_devices_are_refused() -> None:
    network = Net()
    network.fc.to("cuda:0")
    with pytest.raises(OptionError, match=r"several devices, cpu, cuda:0. Fix: move it to one: .to\('cuda:0'\)"):
        prepared(network)
