"""Network -> the same function with fewer operations: batch norms folded into the convolutions before them.

To find out which norm follows which convolution, the forward of every module is traced symbolically (torch.fx) with
its submodules as black boxes. So `self.bn1(self.conv1(x))` folds as an `nn.Sequential` does, and a forward that cannot
be traced stays as it is.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from gen_prior.classifiers.same_padding import SameConv2d

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_EXACT_CONVOLUTIONS = (*_CONVOLUTIONS, SameConv2d)
"""Classes whose output is a convolution of the input, which need no check on noise."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ORIGINAL = "_before_folding"


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold batch norms in evaluation mode, in place, where they are the only use of a convolution; return `network`.

    The convolution gets new parameters, and the norm becomes an identity (or the activation that it applies itself),
    so layer names stay. Not folded: modules or parameters that are shared, run more than once, or are read directly
    by a forward; modules with hooks; norms without running statistics; subclasses of convolutions whose folded output
    on noise differs.
    """
    if not any(isinstance(part, _NORMS) for part in network.modules()):
        return network
    owners: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for parent in network.modules():
        for name, child in parent._modules.items():
            if child is not None:
                owners.setdefault(child, []).append((parent, name))
    tensors = Counter(id(p) for m in network.modules() for p in m._parameters.values() if p is not None)
    traced = list(_traced(network))
    runs: Counter[nn.Module] = Counter()
    for module, graph in traced:
        for node in graph.nodes:
            if node.op == "call_module":
                runs[module.get_submodule(str(node.target))] += 1
            elif node.op == "get_attr":  # a parameter used by hand counts as another run
                runs[module.get_submodule(str(node.target).rpartition(".")[0])] += 1
    for module, graph in traced:
        for source, layer, norm in _pairs(module, graph):
            alone = all(runs[part] == 1 and len(owners[part]) == 1 for part in (source, layer, norm))
            if alone and all(tensors[id(p)] == 1 for p in layer.parameters()) and _foldable(layer, norm):
                parent, name = owners[norm][0]
                _fold(layer, norm, parent, name)
    return network


def unfolded(module: nn.Module) -> nn.Module | None:
    """The convolution as it was before a norm was folded into it, on the module's device; None if none was.

    It is kept in a list, which `nn.Module` does not look into: it is in no state dict, and `.to` does not move it.
    """
    kept: list[nn.Module] | None = getattr(module, _ORIGINAL, None)
    if kept is None:
        return None
    weight = next(module.parameters())
    now = next(kept[0].parameters())
    if (now.device, now.dtype) != (weight.device, weight.dtype):  # torch.compile cannot trace a move
        kept[0].to(device=weight.device, dtype=weight.dtype)
    return kept[0]


class _Shallow(fx.Tracer):
    """Trace one forward, with every submodule as a black box."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _traced(network: nn.Module) -> Iterator[tuple[nn.Module, fx.Graph]]:
    """Each module with the graph of its own forward, where that runs other modules and can be traced.

    Copies that share the weights are traced: a forward may store its symbols in buffers, lists and dicts.
    """
    weights: dict[int, object] = {id(parameter): parameter for parameter in network.parameters()}
    try:
        twin = copy.deepcopy(network, weights)
    except Exception:  # a module may hold anything
        return
    for name, module in network.named_modules():
        copied = twin.get_submodule(name)
        graph = _trace(copied, is_root=copied is twin)
        if graph is not None:
            yield module, graph


def _trace(module: nn.Module, *, is_root: bool) -> fx.Graph | None:
    """Graph of the module's own forward; None if it runs no other module, or cannot be traced."""
    if isinstance(module, _NORMS) or not any(True for _ in module.children()):
        return None
    if isinstance(module, nn.Sequential) and _is_plain(module):
        return _chain(module)
    defaults = _defaults(module) if is_root else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Shallow().trace(module, concrete_args=defaults)
    except Exception:
        return None  # any forward may raise anything when run on symbols: it stays unfolded


def _chain(sequence: nn.Sequential) -> fx.Graph:
    """Graph of a sequence, as a trace would find it, which takes longer."""
    graph = fx.Graph()
    node = graph.placeholder("input")
    for name in sequence._modules:
        node = graph.call_module(name, (node,))
    graph.output(node)
    return graph


def _defaults(module: nn.Module) -> dict[str, bool | None]:
    """Default flags of a root's forward, which is called with images only: the tracer takes them as constants."""
    parameters = inspect.signature(module.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is None or isinstance(p.default, bool)}


def _pairs(module: nn.Module, graph: fx.Graph) -> Iterator[tuple[nn.Module, Convolution, Norm]]:
    """Triples (source, convolution, norm) where only the norm reads the source's output.

    The source is the convolution itself, or an `nn.Sequential` that ends in it.
    """
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        source, norm = module.get_submodule(str(before.target)), module.get_submodule(str(node.target))
        layer = source[-1] if isinstance(source, nn.Sequential) and _is_plain(source) else source
        if isinstance(layer, _CONVOLUTIONS) and isinstance(norm, _NORMS):
            yield source, layer, norm


def _is_plain(sequence: nn.Sequential) -> bool:
    return len(sequence) > 0 and type(sequence).forward is nn.Sequential.forward


def _foldable(layer: Convolution, norm: Norm) -> bool:
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(part, name) for part in (layer, norm) for name in hooks) or "weight" not in layer._parameters:
        return False
    finite = all(torch.isfinite(values).all() for values in (norm.running_mean, norm.running_var))
    return finite and layer.out_channels == norm.num_features and _replacement(norm) is not None


def _replacement(norm: Norm) -> nn.Module | None:
    """The identity, or the activation that the norm applies, which stays in place of a folded norm; else None."""
    if type(norm) in _NORMS:
        return nn.Identity()
    if type(norm).__name__ == "BatchNormAct2d":  # timm: the norm, then its submodules drop and act
        return nn.Sequential(OrderedDict((name, norm.get_submodule(name)) for name in ("drop", "act")))
    return None


@torch.no_grad()
def _fold(layer: Convolution, norm: Norm, parent: nn.Module, name: str) -> None:
    original = copy.deepcopy(layer)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    after = _replacement(norm)
    assert after is not None
    layer.weight, layer.bias = _frozen(weight), _frozen(bias)
    if type(layer) not in _EXACT_CONVOLUTIONS and not _same(nn.Sequential(original, norm), nn.Sequential(layer, after)):
        layer.weight, layer.bias = original.weight, original.bias
        return
    setattr(layer, _ORIGINAL, [original.requires_grad_(False)])
    parent._modules[name] = after.eval()


def _same(unfolded: nn.Sequential, folded: nn.Sequential) -> bool:
    """True if both give the same on noise of the smallest size that the convolution takes."""
    layer = unfolded[0]
    assert isinstance(layer, _CONVOLUTIONS)
    sides = [dilation * (kernel - 1) + 2 for kernel, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2, layer.in_channels, *sides, generator=rng).to(layer.weight)
    before: Tensor = unfolded(noise)
    return torch.allclose(before, folded(noise), rtol=1e-3, atol=1e-4 * float(before.abs().max()) + 1e-12)


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=False)
