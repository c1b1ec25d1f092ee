"""Batch norm folded into the convolution or linear layer before it: the same function, fewer operations."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold, in place, each evaluation-mode batch norm that follows its layer directly inside a container.

    Only neighbours in an `nn.Sequential` (or subclass) are folded: there, running order is known. Layer
    names stay: a folded norm becomes an identity. Returns `network`.
    """
    for container in network.modules():
        if not isinstance(container, nn.Sequential):
            continue
        names = list(container._modules)
        for name, following in zip(names, names[1:], strict=False):
            layer, norm = container._modules[name], container._modules[following]
            folded: nn.Module | None = None
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _foldable(norm):
                folded = fuse_conv_bn_eval(layer.eval(), norm.eval())
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and _foldable(norm):
                folded = fuse_linear_bn_eval(layer.eval(), norm.eval())
            if folded is not None:
                container._modules[name] = folded.requires_grad_(False)
                container._modules[following] = nn.Identity()
    return network


def _foldable(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> bool:
    return norm.running_mean is not None and torch.isfinite(norm.running_var).all().item()  # type: ignore[arg-type,return-value]
