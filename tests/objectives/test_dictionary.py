"""Dictionaries: each layout against a reference written, element by element, from the layout's description."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import Hub
from safetensors.torch import save_file
from torch import Tensor

from gen_prior.errors import GenPriorError, OptionError, WeightsError
from gen_prior.objectives.dictionary import Dictionary
from gen_prior.objectives.dictionary_formats import load_dictionary, load_directions

WIDTH, LATENTS = 5, 9


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source)

    return {
        "W_enc": draw(WIDTH, LATENTS),
        "b_enc": 0.3 * draw(LATENTS),
        "W_dec": 2 * draw(LATENTS, WIDTH),
        "b_dec": 0.5 * draw(WIDTH),
    }


@pytest.fixture
def units() -> Tensor:
    return torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(7))


def saelens(folder: Path, tensors: dict[str, Tensor], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    whole = {"architecture": "standard", "d_in": WIDTH, "d_sae": LATENTS, "apply_b_dec_to_input": True} | config
    (folder / "cfg.json").write_text(json.dumps(whole))
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


def by_hand(
    units: Tensor,
    tensors: dict[str, Tensor],
    activation: Callable[[list[float], int], float],
    normalise: Callable[[list[float]], list[float]] = list,
    subtract: bool = True,
    gain: Callable[[int], float] = lambda latent: 1.0,
) -> Tensor:
    """Latents in plain Python: normalise, subtract the decoder's bias, one dot product a latent, activation."""
    result = torch.zeros(*units.shape[:-1], LATENTS)
    for index in np.ndindex(*units.shape[:-1]):
        x = normalise(units[index].tolist())
        if subtract:
            x = [value - bias for value, bias in zip(x, tensors["b_dec"].tolist(), strict=True)]
        before = [
            gain(latent)
            * (
                sum(x[row] * float(tensors["W_enc"][row, latent]) for row in range(WIDTH))
                + float(tensors["b_enc"][latent])
            )
            for latent in range(LATENTS)
        ]
        result[index] = torch.tensor([activation(before, latent) for latent in range(LATENTS)])
    return result


def relu(before: list[float], latent: int) -> float:
    return max(0.0, before[latent])


def top(k: int, rectified: bool = True) -> Callable[[list[float], int], float]:
    def activation(before: list[float], latent: int) -> float:
        kept = latent in sorted(range(LATENTS), key=before.__getitem__, reverse=True)[:k]
        return (max(0.0, before[latent]) if rectified else before[latent]) if kept else 0.0

    return activation


def layer_norm(x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    std = math.sqrt(sum((value - mean) ** 2 for value in x) / (len(x) - 1))
    return [(value - mean) / (std + 1e-5) for value in x]


def constant_norm(x: list[float]) -> list[float]:
    length = math.sqrt(sum(value**2 for value in x))
    return [value * math.sqrt(len(x)) / length for value in x]


def check(dictionary: Dictionary, units: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(dictionary(units), expected, rtol=1e-4, atol=1e-5)
    assert (expected != 0).any()
    assert (expected == 0).any() or not dictionary.rectified
    for number in (0, 4, LATENTS - 1):
        torch.testing.assert_close(dictionary.latent(number)(units), expected[..., number], rtol=1e-4, atol=1e-5)
        drive = dictionary.drive(number)(units)
        active = expected[..., number] != 0
        torch.testing.assert_close(drive[active], expected[..., number][active], rtol=1e-4, atol=1e-5)


def test_saelens_standard(tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    folder = saelens(tmp_path / "a", tensors, metadata={"hook_name": "blocks.3.hook_resid_post"})
    dictionary = load_dictionary(folder)
    assert (dictionary.width, len(dictionary), dictionary.layer) == (WIDTH, LATENTS, "blocks.3.hook_resid_post")
    check(dictionary, units, by_hand(units, tensors, relu))
    without = saelens(tmp_path / "b", tensors, apply_b_dec_to_input=False)
    check(load_dictionary(f"local-dir:{without}"), units, by_hand(units, tensors, relu, subtract=False))


@pytest.mark.parametrize(("name", "function"), [("layer_norm", layer_norm), ("constant_norm_rescale", constant_norm)])
def test_saelens_normalises(
    name: str, function: Callable[[list[float]], list[float]], tmp_path: Path, tensors: dict[str, Tensor], units: Tensor
) -> None:
    folder = saelens(tmp_path, tensors, normalize_activations=name)
    check(load_dictionary(folder), units, by_hand(units, tensors, relu, function))


def test_saelens_jumprelu(tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    threshold = torch.linspace(-0.5, 1.5, LATENTS)
    folder = saelens(tmp_path, tensors | {"threshold": threshold}, architecture="jumprelu")

    def activation(before: list[float], latent: int) -> float:
        return max(0.0, before[latent]) if before[latent] > float(threshold[latent]) else 0.0

    check(load_dictionary(folder), units, by_hand(units, tensors, activation))


def test_saelens_topk(tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    folder = saelens(tmp_path / "a", tensors, architecture="topk", k=3)
    check(load_dictionary(folder), units, by_hand(units, tensors, top(3)))
    scaled = saelens(tmp_path / "b", tensors, architecture="topk", k=3, rescale_acts_by_decoder_norm=True)
    lengths = [math.sqrt(sum(value**2 for value in row)) for row in tensors["W_dec"].tolist()]
    check(load_dictionary(scaled), units, by_hand(units, tensors, top(3), gain=lengths.__getitem__))
    older = saelens(tmp_path / "c", tensors, activation_fn_str="topk", activation_fn_kwargs={"k": 2})
    check(load_dictionary(older), units, by_hand(units, tensors, top(2)))


def test_prisma(tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    config = {
        "d_in": WIDTH, "d_sae": LATENTS, "hook_point_layer": 8, "layer_subtype": "hook_mlp_out",
        "activation_fn_str": "relu", "activation_fn_kwargs": {}, "architecture": "standard",
        "normalize_activations": "layer_norm", "total_training_images": 13_000_000,
        "dtype": {"__type__": "torch.dtype", "value": "torch.float32"},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(tensors, tmp_path / "weights.pt")
    dictionary = load_dictionary(tmp_path)
    assert dictionary.layer == "blocks.8.hook_mlp_out"
    check(dictionary, units, by_hand(units, tensors, relu, layer_norm))
    config |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "normalize_activations": "none"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check(load_dictionary(tmp_path), units, by_hand(units, tensors, top(4)))


def saev(folder: Path, tensors: dict[str, Tensor], activation: dict[str, Any], schema: int | None = 5) -> Path:
    folder.mkdir(exist_ok=True)
    header = {"schema": schema, "cfg": {"d_model": WIDTH, "d_sae": LATENTS, "activation": activation}}
    with (folder / "sae.pt").open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(tensors, file)
    return folder


def test_saev(tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    plain = saev(tmp_path / "a", tensors, {"cls": "Relu", "params": {}})
    check(load_dictionary(plain), units, by_hand(units, tensors, relu, subtract=False))
    signed = saev(tmp_path / "b", tensors, {"cls": "TopK", "params": {"top_k": 7}})
    check(load_dictionary(signed), units, by_hand(units, tensors, top(7, rectified=False), subtract=False))
    for threshold in (0.6, -1.0):
        whole = tensors | {"activation.threshold": torch.tensor(threshold)}
        batched = saev(tmp_path / f"c{threshold}", whole, {"cls": "BatchTopK", "params": {"top_k": 3}})
        least = max(threshold, 0.0)
        expected = by_hand(units, tensors, lambda b, n, least=least: b[n] if b[n] > least else 0.0, subtract=False)  # type: ignore[misc]
        check(load_dictionary(batched), units, expected)


def test_a_dictionary_of_ones_own_is_saved_and_loads_again(
    tmp_path: Path, tensors: dict[str, Tensor], units: Tensor
) -> None:
    made = {
        "standard": Dictionary(tensors["W_enc"], tensors["b_enc"], tensors["b_dec"], tensors["W_dec"], layer="conv2"),
        "topk": Dictionary(tensors["W_enc"], decoder=tensors["W_dec"], k=2, normalise="layer_norm"),
        "jumprelu": Dictionary(tensors["W_enc"], decoder=tensors["W_dec"], threshold=torch.full((LATENTS,), 0.2)),
    }
    for architecture, dictionary in made.items():
        loaded = load_dictionary(dictionary.save(tmp_path / architecture))
        torch.testing.assert_close(loaded(units), dictionary(units))
        assert loaded.layer == dictionary.layer
        assert json.loads((tmp_path / architecture / "cfg.json").read_text())["architecture"] == architecture
    with pytest.raises(OptionError, match="lacks a decoder"):
        Dictionary(tensors["W_enc"]).save(tmp_path)


def test_a_silent_latent_has_a_gradient_in_its_drive(tensors: dict[str, Tensor], units: Tensor) -> None:
    dictionary = Dictionary(tensors["W_enc"], torch.full((LATENTS,), -100.0))
    x = units.clone().requires_grad_()
    (silent,) = torch.autograd.grad(dictionary.latent(2)(x).sum(), x)
    (driven,) = torch.autograd.grad(dictionary.drive(2)(x).sum(), x)
    assert not silent.any()
    torch.testing.assert_close(driven[0, 0], tensors["W_enc"][:, 2])


def test_a_changed_folder_is_read_again(tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    first = load_dictionary(saelens(tmp_path, tensors))
    assert load_dictionary(tmp_path) is first
    saelens(tmp_path, tensors | {"b_enc": tensors["b_enc"] + 1})
    assert not torch.equal(load_dictionary(tmp_path)(units), first(units))


def test_from_the_hub(hub: Hub, tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    folder = saelens(tmp_path / "made", tensors)
    hub.publish("org/saes", {f"layer_9/{path.name}": path.read_bytes() for path in folder.iterdir()})
    check(load_dictionary("hf-hub:org/saes/layer_9"), units, by_hand(units, tensors, relu))


def test_directions_and_probes(tmp_path: Path, tensors: dict[str, Tensor], units: Tensor) -> None:
    rows = tensors["W_dec"]
    expected = units @ (rows / rows.norm(dim=1, keepdim=True)).T
    np.save(tmp_path / "rows.npy", rows.numpy())
    save_file({"anything": rows}, tmp_path / "rows.safetensors")
    for name in ("rows.npy", "rows.safetensors"):
        torch.testing.assert_close(load_directions(tmp_path / name)(units), expected)
    np.save(tmp_path / "one.npy", rows[2].double().numpy())
    torch.testing.assert_close(load_directions(tmp_path / "one.npy")(units), expected[..., 2:3])
    probe = torch.nn.Linear(WIDTH, 3)
    torch.save(probe.state_dict(), tmp_path / "probe.pt")
    torch.testing.assert_close(load_directions(tmp_path / "probe.pt")(units), probe(units).detach())


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"architecture": "gated"}, "architecture 'gated' are not computed here; allowed: standard, jumprelu, topk"),
        ({"architecture": "transcoder"}, "architecture 'transcoder'"),
        ({"normalize_activations": "expected_average_only_in"}, "Fix: fold it in with SAELens"),
        ({"normalize_activations": "z"}, "normalize_activations 'z'"),
        ({"reshape_activations": "hook_z"}, "reshape_activations 'hook_z'"),
        ({"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu'"),
        ({"architecture": "topk"}, "k must be a whole number, got None"),
        ({"architecture": "topk", "k": 10}, "k must be between 1 and the 9 latents, got 10"),
        ({"architecture": "jumprelu"}, "lacks threshold"),
        ({"d_in": 6}, "W_dec [9, 5] where [9, 6] is expected"),
        ({"d_sae": "many"}, "d_in and d_sae must be positive whole numbers"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor True"),
    ],
)
def test_what_is_not_certain_is_refused(
    config: dict[str, Any], says: str, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    with pytest.raises(GenPriorError) as caught:
        load_dictionary(saelens(tmp_path, tensors, **config))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_refusals(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match="no folder"):
        load_dictionary(tmp_path / "absent")
    with pytest.raises(WeightsError, match=r"holds no cfg\.json \(SAELens\), config\.json"):
        load_dictionary(tmp_path)
    with pytest.raises(WeightsError, match=r"has schema 4 of saev; only 5 is certain"):
        load_dictionary(saev(tmp_path / "old", tensors, {"cls": "Relu", "params": {}}, schema=4))
    (tmp_path / "cfg.json").write_text("[1]")
    with pytest.raises(WeightsError, match="not a JSON object"):
        load_dictionary(tmp_path)
    with pytest.raises(OptionError, match="latent 9 is out of range: the dictionary has latents 0 to 8"):
        Dictionary(tensors["W_enc"]).latent(9)
    with pytest.raises(OptionError, match=r"bias must have shape \[9\]"):
        Dictionary(tensors["W_enc"], torch.zeros(3))
    for name, content, says in (
        ("a.npy", np.zeros((2, 3)), "row 0 is zero"),
        ("b.npy", np.zeros((2, 3, 4)), "directions are"),
        ("c.npy", np.array([{}]), "not an array of NumPy"),
    ):
        np.save(tmp_path / name, content, allow_pickle=True)
        with pytest.raises(GenPriorError, match=says):
            load_directions(tmp_path / name)
    save_file({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match="one tensor, or weight and bias, is expected"):
        load_directions(tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match="no file"):
        load_directions(tmp_path / "absent.npy")


def test_a_dictionary_is_one_line(tmp_path: Path) -> None:
    made = Dictionary(torch.zeros(3, 1200), decoder=torch.zeros(1200, 3), k=2, layer="conv2")
    assert repr(made) == "<Dictionary: 1,200 latents of 3 units, at most 2 active, of conv2>"
    assert f", from local-dir:{tmp_path}>" in repr(load_dictionary(made.save(tmp_path)))
    assert repr(Dictionary(torch.zeros(3, 1), rectified=False)) == "<Dictionary: 1 direction of 3 units>"
