"""The verbs beside `vitx train`."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitx.config.schema.choices import (
    EvalCombine,
    EvalCrop,
    Head,
    Order,
    Protocol,
    RecipeAction,
    Scale,
    SweepAction,
    Token,
    TortureAction,
    Weights,
)
from vitx.config.schema.data import DatasetConfig
from vitx.config.schema.marks import CHOICE, FILE, MISSING, RECIPE


@dataclass(kw_only=True)
class ProbeConfig:
    """Frozen features, for protocols other than head."""

    token: Token = Token.pre_logits
    """pre_logits (what the classifier gets), class, mean_patch, class_and_mean, or last4_class (of
    the last four blocks)."""
    block: int | None = None
    """Behind which block, from 0, or from -1 backwards; null is the last."""
    k: list[int] = field(default_factory=lambda: [10, 20, 100, 200])
    """knn: how many neighbours vote; a result for each."""
    temperature: float = 0.07
    """knn: the lower, the more the nearest decide."""
    epochs: int = 100
    """sgd: passes over the features of the training split."""
    shots: list[int] = field(default_factory=lambda: [1, 5, 10, 25])
    """few_shot: pictures of each class; a result for each."""
    seeds: int = 3
    """few_shot: draws of them."""


@dataclass(kw_only=True)
class EvalConfig:
    """`vitx eval`: measure a run again, on its own validation split or another dataset."""

    run: str | None = field(default=None, metadata={"path": True})
    """Run directory; null is the newest one."""
    checkpoint: str = "last"
    """last, best, or a step number."""
    weights: Weights = Weights.auto
    """model, ema, or auto: ema where the run kept one."""
    average: int = 1
    """How many of the newest checkpoints to average the weights of, up to that one."""
    also: list[str] = field(default_factory=list)
    """Further runs to measure together with it, each with its newest weights."""
    combine: EvalCombine = EvalCombine.probabilities
    """also: average the probabilities (an ensemble) or the weights (a soup)."""
    head: Head | None = None
    """Of a distillation token: mean_logits, mean_softmax, class_head, distill_head."""
    suite: list[str] = field(default_factory=lambda: ["val"])
    """What to measure on, eval/<suite>.json and .parquet: val (the run's own split), corrupted and
    resolution (the same, changed), imagenet, real, v2, a, r, sketch, c (ImageNet-C's files);
    imagenet_full is imagenet to sketch. With dataset= the name of the result."""
    dataset: DatasetConfig | None = None
    """Another dataset with the same classes; null is the run's own."""
    protocol: Protocol = Protocol.head
    """head (the classifier), or what frozen features of the training split say: knn (weighted
    nearest neighbours), logistic (regression, strength by held-out samples), sgd (DINO's linear
    probe, on stored features), few_shot (ridge regression of big_vision)."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    data: str | None = field(default=None, metadata={"path": True})
    """Directory that holds suites: imagenet/val, imagenetv2-matched-frequency-format-val,
    imagenet-a, imagenet-r, sketch, imagenet-c."""
    paths: dict[str, str] = field(default_factory=dict, metadata={"path": True})
    """Directories of single suites: paths.v2=DIR."""
    partial: bool = False
    """Measure suites that are not whole too; what they lack is told."""
    resolutions: list[int] = field(default_factory=list)
    """resolution: sides of the pictures, in pixels; [] is from half to twice that of training.
    Position embeddings are resampled."""
    corruptions: list[str] = field(default_factory=list)
    """corrupted and c: names such as fog; [] is the 15 common ones."""
    severities: list[int] = field(default_factory=list)
    """corrupted and c: from 1 (weak) to 5 (strong); [] is all five."""
    crop: EvalCrop = EvalCrop.own
    """own (as training evaluated), c875, c900, c950, c1000 (centre crop: share of the shorter side
    after resizing), or squash (the whole picture, its sides made equal)."""
    bins: int = 15
    """Bins of the calibration error."""
    batch_size: int | None = None
    """Pictures per forward pass; null is what training evaluated with."""
    workers: int | None = None
    """Loader processes; null chooses."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    devices: int | None = 1
    """Processes on this machine that share the pictures; null is as many as it has GPUs."""


@dataclass(kw_only=True)
class ModelsConfig:
    """`vitx models`: list the options of model= with their size and published results."""

    pattern: str | None = field(default=None, metadata={"positional": "model"})
    """Part of a name, or a pattern such as 'xcit_*_p8'; the whole name of one shows all of it."""
    family: str | None = None
    """Only this family: ViT, DeiT, XCiT, AlterNet, ..."""
    px: int | None = None
    """Only those published for pictures of this side."""
    max_parameters: float | None = None
    """Most parameters, in millions."""
    max_gmacs: float | None = None
    """Most multiply-accumulates for one picture, in 10^9."""
    min_top1: float | None = None
    """Least published top-1, in percent."""
    sort: Order = Order.family
    """family (and size in it), model, parameters, gmacs, px or top1."""
    descending: bool = False
    """Largest first."""


@dataclass(kw_only=True)
class CompareConfig:
    """`vitx compare`: are runs really different, on the same samples?"""

    runs: list[str] = field(default_factory=list, metadata={"positional": FILE, "path": True})
    """Run directories, two or more. Those that differ in nothing but the seed form a group."""
    suite: str = "val"
    """Which of their results: eval/<suite>.json and .parquet."""
    baseline: str | None = field(default=None, metadata={"path": True})
    """Run (or one of a group) that all others are compared with; null compares all pairs."""
    groups: bool = True
    """Whether runs that differ only by seed are compared as a group, over seeds and samples."""
    level: float = 0.95
    """Of the intervals; 1 - level is where a corrected p counts as a difference."""
    seed: int = 0
    """Of the resamples that intervals of the loss come from; the others need none."""
    out: str = field(default="compare", metadata={"path": True})
    """Where to write, without ending: all numbers as .json, the differences as a .png."""


@dataclass(kw_only=True)
class PredictConfig:
    """`vitx predict`: name what is in pictures, with probabilities; look at its attention."""

    pictures: list[str] = field(default_factory=list, metadata={"positional": FILE, "path": True})
    """Picture files and folders of them, which are searched all the way down; - is the picture that
    comes in by stdin."""
    run: str | None = field(default=None, metadata={"path": True})
    """Run directory; null is the newest one."""
    checkpoint: str = "last"
    """last, best, or a step number."""
    weights: Weights = Weights.auto
    """model, ema, or auto: ema where the run kept one."""
    head: Head | None = None
    """Of a distillation token: mean_logits, mean_softmax, class_head, distill_head."""
    top: int = 5
    """How many classes to name, the likeliest first."""
    json: bool = False
    """One JSON object a line for each picture, and nothing else on stdout."""
    attention: str | None = field(default=None, metadata={"path": True})
    """Folder for a PNG of each picture, as the model saw it beside its attention map (ViT, DeiT:
    rollout; XCiT: class attention); true is the folder attention."""
    crop: EvalCrop = EvalCrop.own
    """What of a picture is shown, as of vitx eval: own, c875, c900, c950, c1000 or squash."""
    batch_size: int | None = None
    """Pictures per forward pass; null is what training evaluated with."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


@dataclass(kw_only=True)
class ImportConfig:
    """`vitx import`: turn a file of weights from elsewhere into safetensors; it is not run."""

    file: str = field(default=MISSING, metadata={"positional": FILE, "path": True})
    """The file: .pth, .pt, .bin or .npz."""
    to: str | None = field(default=None, metadata={"path": True})
    """Where to write; null is beside the file, with the ending .safetensors."""
    part: str | None = None
    """Which weights to take where a file holds several: model, model_ema, teacher, student, ..."""
    model: str | None = None
    """Option of model= or timm's name it is for: needed for .npz; else it is tried on it."""


@dataclass(kw_only=True)
class RecipeConfig:
    """`vitx recipe`: run a published result again, stage by stage, beside its number."""

    action: RecipeAction = field(default=MISSING, metadata={"positional": CHOICE})  # type: ignore[assignment]
    """list them, show one with its commands and sources, or run it; a stopped one goes on."""
    name: str | None = field(default=None, metadata={"positional": RECIPE})
    """The recipe. Further setting=value words go to each of its stages."""
    scale: Scale = Scale.full
    """full, or smoke: a rehearsal of about a minute on a CPU, on embedded data."""


@dataclass(kw_only=True)
class SweepConfig:
    """`vitx sweep`: show where the jobs of a sweep stand, or run those that are not finished."""

    action: SweepAction = field(default=MISSING, metadata={"positional": CHOICE})  # type: ignore[assignment]
    """status shows a table of the jobs. resume runs those that are waiting, were stopped or failed,
    in the directories that they have and under their numbers, each from its newest checkpoint; it
    leaves finished ones alone, and ends with code 7 where some failed. Words such as
    hydra.launcher.partition=x go to the launcher of the sweep."""
    sweep: str | None = field(default=None, metadata={"positional": FILE, "path": True})
    """Directory of the sweep; null is the newest below runs/sweeps."""
    failed: bool = False
    """Whether resume also tries jobs again whose settings were refused (code 2): they are refused
    again unless something else, such as the version of vitx, has changed."""


@dataclass(kw_only=True)
class TortureConfig:
    """`vitx torture`: inflict faults on small runs on this machine, and see what comes of them."""

    action: TortureAction = field(default=TortureAction.run, metadata={"positional": CHOICE})
    """run the faults, or list them."""
    only: str | None = None
    """Names of faults, or patterns such as 'kill*', between commas; null is all."""
    kills: int = 20
    """How often the fault `kill` kills: half on one process, half on two."""
    devices: int = 4
    """Most processes of a run; faults that take more are skipped."""
    device: str = "cpu"
    """What computes, as of runtime.device; cuda:0 is for several processes at a time. Whether a GPU
    comes to the same bits twice is part of what is tried."""
    seed: int = 0
    """Of what is drawn: moments, processes, bits."""
    folder: str | None = field(default=None, metadata={"path": True})
    """Where to work; null is a temporary folder that is removed if nothing fails, else kept."""
    report: str = field(default="torture.json", metadata={"path": True})
    """File to write what came of it to."""
