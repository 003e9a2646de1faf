"""The run that an environment is looked at for: what it needs, reckoned when it is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vitx.config.schema import MISSING, TrainConfig
from vitx.runtime.limits import cores_by_affinity

if TYPE_CHECKING:
    from vitx.data.sources import Splits

_NEEDED_BY = {"torchvision": ("torch",), "timm": ("torchvision",)}
_FLOAT_BYTES = 4
_CLASSES = 1000  # where the data can't be asked
_MOST_WORKERS = 8
_PREFETCHED = 2  # batches of each loader process, torch's default
_MOMENTS = 2  # tensors that an optimizer keeps of each parameter; Adam's, and no other keeps more


class Unusable(Exception):  # noqa: N818 (said of a library)
    """A library can't be imported, which is told where libraries are looked at."""


@dataclass(kw_only=True)
class Planned:
    """A planned run.

    Attributes:
        config: its configuration.
        verb: `train` or `distill`.
        unusable: libraries that are known to be broken.
    """

    config: TrainConfig
    verb: str = "train"
    unusable: set[str] = field(default_factory=set)

    def need(self, library: str) -> Any:
        """Import a library, in the way that vitx does.

        Returns:
            The module.

        Raises:
            Unusable: it, or one that it needs, can't be imported.
        """
        if library in self.unusable:
            raise Unusable(library)
        for other in _NEEDED_BY.get(library, ()):
            self.need(other)
        try:
            if library == "torchvision":
                importlib.import_module("vitx.runtime.torchvision_ops").declare_missing_ops()
            return importlib.import_module(library)
        except Exception as error:
            self.unusable.add(library)
            raise Unusable(library) from error

    @cached_property
    def gpus(self) -> int:
        """GPUs that torch can use."""
        try:
            return int(self.need("torch").cuda.device_count())
        except Unusable:
            return 0

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU of Nvidia or AMD."""
        device = self.config.runtime.device
        return device.startswith("cuda") or (device == "auto" and self.gpus > 0)

    @property
    def ranks(self) -> int:
        """Processes that train."""
        wanted = self.config.runtime.devices
        return max(1, (self.gpus if self.on_gpu else 1) if wanted is None else wanted)

    @property
    def workers(self) -> int:
        """Loader processes of each."""
        wanted = self.config.dataset.workers
        if wanted is not None:
            return wanted
        return min(_MOST_WORKERS, cores_by_affinity()) if self.on_gpu else 1

    @property
    def batch_bytes(self) -> int:
        """Size of the two batches, of training and of evaluation, that a process has at a time."""
        config = self.config
        pictures = min(config.micro_batch, -(-config.batch_size // self.ranks))
        evaluated = config.evaluation_batch
        values = config.dataset.channels * config.image_px**2
        return (pictures + evaluated) * values * _FLOAT_BYTES

    @property
    def shared_bytes(self) -> int:
        """Most shared memory that the batches of all loader processes take."""
        waiting = _PREFETCHED * self.workers + 1  # one more is being trained on
        return self.ranks * waiting * self.batch_bytes if self.workers else 0

    @cached_property
    def splits(self) -> Splits:
        """The dataset; it has to be on this machine."""
        from vitx.data.sources import load_splits

        return load_splits(self.config.dataset)

    @cached_property
    def parameter_bytes(self) -> int:
        """Size of the weights, in fp32.

        Raises:
            Unusable: the model can't be built without its libraries.
        """
        if self.config.model.name == MISSING:  # it is composed by Hydra
            raise Unusable("hydra")
        torch = self.need("torch")
        self.need("timm")
        from vitx.models.build import Fit, build_model, count_parameters

        fit = Fit(
            num_classes=self._classes(),
            channels=self.config.dataset.channels,
            image_px=self.config.image_px,
        )
        with torch.device("meta"):  # takes no memory
            return count_parameters(build_model(self.config.model, fit)) * _FLOAT_BYTES

    @property
    def optimizer_bytes(self) -> int:
        """Most that the optimizer keeps."""
        return _MOMENTS * self.parameter_bytes

    @property
    def checkpoint_bytes(self) -> int:
        """Size of a checkpoint: weights, their average, and what the optimizer keeps."""
        averages = 0 if self.config.ema.decay is None else 1
        return (1 + averages) * self.parameter_bytes + self.optimizer_bytes

    def _classes(self) -> int:
        if "splits" in self.__dict__:  # somebody has looked at them
            return len(self.splits.classes)
        return self.config.dataset.num_classes or _CLASSES
