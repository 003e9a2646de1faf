"""Feature matching: named blocks of the student learn what blocks of the teacher see.

Shapes: B batch, N tokens, D width of a token, H height and W width in patches, L = H W places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from vitx.errors import UsageError, near_matches


class FeatureMatching(nn.Module):
    """The distance of a student's features from a teacher's, block by block.

    The student's are projected linearly to the teacher's width, as in FitNets (arXiv 1412.6550,
    eq. 3); the teacher's have mean 0 and variance 1 at every place, so that one weight fits all
    teachers (Y. Wei et al., arXiv 2205.14141, section 3.2). Class and distillation tokens are left
    out; of two grids the finer one is averaged to the coarser.

    Args:
        student: whose blocks are listened to, from now on.
        teacher: likewise.
        pairs: names of the student's blocks, and of the teacher's.
        pictures: [B, C, H, W] for each of the two; one pass tells the widths.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        pairs: Mapping[str, str],
        *,
        pictures: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self._student = _Listener(student, pairs.keys(), who="student")
        self._teacher = _Listener(teacher, pairs.values(), who="teacher")
        self._pairs = dict(pairs)
        with torch.no_grad():
            for model, given in zip((student, teacher), pictures, strict=True):
                training = model.training
                model.eval()(given)
                model.train(training)
        heard = self._heard()
        self.projections = nn.ModuleList(
            nn.Linear(own.shape[-1], other.shape[-1]) for own, other in heard
        )
        self.to(pictures[0].device)

    def forward(self) -> Tensor:
        """Return the mean over pairs of the mean squared distance, of the last pass of each."""
        distances = []
        for project, (own, other) in zip(self.projections, self._heard(), strict=True):
            with torch.autocast(own.device.type, enabled=False):
                wanted = F.layer_norm(other.float(), other.shape[-1:])
                distances.append(F.mse_loss(project(own.float()), wanted))
        return torch.stack(distances).mean()

    def _heard(self) -> list[tuple[Tensor, Tensor]]:
        """Return [B, L, D] of both sides of each pair, on the same grid; they are forgotten."""
        student, teacher = self._student.take(), self._teacher.take()
        return [_on_one_grid(student[own], teacher[other]) for own, other in self._pairs.items()]


class _Listener:
    """Keeps what some blocks of a model gave last, as [B, D, H, W]."""

    def __init__(self, model: nn.Module, names: Iterable[str], *, who: str) -> None:
        self._model, self._who, self._names = model, who, tuple(names)
        self._heard: dict[str, Tensor] = {}
        blocks = {name: block for name, block in model.named_modules() if name}
        for name in self._names:
            if name not in blocks:
                near = near_matches(name, list(blocks)) or f"; it has {_top(model)}"
                raise UsageError(
                    f"distillation.features: the {who} has no block named {name!r}{near}"
                )
            blocks[name].register_forward_hook(self._hook(name))

    def take(self) -> dict[str, Tensor]:
        heard, self._heard = self._heard, {}
        for name in self._names:
            if name not in heard:
                raise UsageError(
                    f"distillation.features: {name!r} of the {self._who} is not called in a pass"
                )
        return heard

    def _hook(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            try:
                self._heard[name] = _as_map(output, self._model)
            except ValueError as error:
                raise UsageError(
                    f"distillation.features: {name!r} of the {self._who} {error}"
                ) from error

        return keep


def _as_map(output: Any, model: Any) -> Tensor:
    """Return features as [B, D, H, W].

    Raises:
        ValueError: they are of no grid.
    """
    if not isinstance(output, Tensor) or not 2 <= output.ndim <= 4:
        raise ValueError("gives no features of shape [B, N, D] or [B, D, H, W]")
    if output.ndim == 2:
        return output[:, :, None, None]
    if output.ndim == 4:
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return output.permute(0, 3, 1, 2) if channels_last else output
    tokens = output.shape[1]
    for prefix in dict.fromkeys((getattr(model, "num_prefix_tokens", 0), 0)):
        side = math.isqrt(max(0, tokens - prefix))
        if side and side * side == tokens - prefix:
            grid: Tensor = output[:, prefix:].transpose(1, 2).unflatten(2, (side, side))
            return grid
    raise ValueError(f"gives {tokens} tokens, which fill no square")


def _on_one_grid(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    height, width = (min(pair) for pair in zip(own.shape[2:], other.shape[2:], strict=True))
    first, second = (
        F.adaptive_avg_pool2d(each, (height, width)).flatten(2).transpose(1, 2)
        for each in (own, other)
    )
    return first, second


def _top(model: nn.Module) -> str:
    names = [name for name, _ in model.named_children()]
    blocks = getattr(model, "blocks", None)
    if isinstance(blocks, nn.Sequential | nn.ModuleList):
        names += [f"blocks.0 to blocks.{len(blocks) - 1}"]
    return ", ".join(names)
