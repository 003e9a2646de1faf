"""The configuration: every setting, its type, default, unit and meaning.

The string under a field is its documentation; `vitx <verb> --help` prints it. YAML under `conf/`
only selects and combines these fields. Importing this module imports neither torch nor OmegaConf.

Field metadata:
    path: the value is a path; the command line takes it as it is, commas and all.
    positional: a word without `=` is its value; says what completes it.
    may_change: the value may differ when a run is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MISSING = "???"  # OmegaConf's mark of a value that has to be given
# What completes a word that is typed without `=`, where it is no group of options.
FILE, CHOICE, RECIPE = "<file>", "<choice>", "<recipe>"


class DatasetKind(Enum):
    """Where images come from."""

    digits = "digits"
    folder = "folder"
    hub = "hub"


# The functional form, since `raise` can't be written as an attribute; OmegaConf reads names.
BadImage = Enum("BadImage", {"raise": "raise", "skip": "skip"})
"""What to do with a picture that can't be decoded."""


class Crop(Enum):
    """How a training picture is brought to size."""

    random_resized = "random_resized"
    resize = "resize"
    pad = "pad"


class PosEmbed(Enum):
    """How a transformer is told where a patch lies."""

    none = "none"
    learned = "learned"
    learned_2d = "learned_2d"
    sincos = "sincos"
    relative = "relative"


class Stem(Enum):
    """How a patch becomes a token."""

    linear = "linear"
    conv = "conv"


class Pool(Enum):
    """What the classifier sees."""

    token = "token"  # noqa: S105 (a class token)
    avg = "avg"


class PosResize(Enum):
    """How a learned position embedding is brought to another grid."""

    bicubic = "bicubic"
    bicubic_antialias = "bicubic_antialias"
    bilinear = "bilinear"


class Loss(Enum):
    """Classification losses."""

    cross_entropy = "cross_entropy"
    bce = "bce"
    sigmoid = "sigmoid"


class ScheduleKind(Enum):
    """Shapes of the learning rate after warm-up."""

    cosine = "cosine"
    linear = "linear"
    step = "step"
    constant = "constant"


class Per(Enum):
    """How often the learning rate changes."""

    step = "step"
    epoch = "epoch"


class DecayFrom(Enum):
    """Where the decay of the learning rate begins to count."""

    start = "start"
    warmup = "warmup"


class DropPathRule(Enum):
    """How stochastic depth is spread over the blocks."""

    linear = "linear"
    constant = "constant"


class Precision(Enum):
    """Arithmetic of the forward and backward pass; weights stay fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Order(Enum):
    """What a list of models is sorted by."""

    family = "family"
    model = "model"
    parameters = "parameters"
    gmacs = "gmacs"
    px = "px"
    top1 = "top1"


class RecipeAction(Enum):
    """What to do about recipes."""

    list = "list"
    show = "show"
    run = "run"


class Scale(Enum):
    """How large a recipe is run."""

    full = "full"
    smoke = "smoke"


class Weights(Enum):
    """Which weights of a run."""

    auto = "auto"
    model = "model"
    ema = "ema"


class WandbMode(Enum):
    """How W&B mirrors the metrics."""

    auto = "auto"
    online = "online"
    offline = "offline"
    off = "off"


@dataclass(kw_only=True)
class DatasetConfig:
    """A labelled image dataset with a training and a validation split."""

    kind: DatasetKind = DatasetKind.digits
    """digits (embedded), folder (class folders) or hub (a Hugging Face dataset, anywhere)."""
    path: str | None = field(default=None, metadata={"path": True, "may_change": True})
    """folder: the directory that holds train/; hub: org/name or a local directory."""
    subset: str | None = None
    """hub: the dataset's configuration name; null is its default."""
    revision: str | None = None
    """hub: commit, tag or branch; null is the newest."""
    train_split: str = "train"
    """Name of the training split."""
    val_split: str | None = None
    """Name of the validation split; null takes val, validation, valid or test, else a hold-out."""
    hold_out: float = 0.1
    """Share of the training split held out, stratified, when there is no validation split."""
    limit: int | None = None
    """Use at most so many pictures of each split, stratified; null uses all."""
    image_column: str = "image"
    """hub: the column of pictures."""
    label_column: str = "label"
    """hub: the column of labels."""
    num_classes: int | None = None
    """Number of classes; null takes it from the class names, else from the training labels."""
    image_px: int | None = None
    """Side of the square picture the model sees, in pixels; null is model.image_px."""
    channels: int = 3
    """3 (RGB) or 1 (grey)."""
    mean: list[float] | None = None
    """Normalisation mean per channel in [0, 1]; null is the model's own, or 0.5 for grey."""
    std: list[float] | None = None
    """Normalisation standard deviation per channel; null as for mean."""
    mirror: bool = True
    """Whether a mirrored picture keeps its label; false switches horizontal flips off."""
    bad_image: BadImage = field(default=BadImage["raise"], metadata={"may_change": True})
    """A picture that can't be decoded: raise ends the run, skip replaces and counts it."""
    bad_image_limit: float = field(default=0.001, metadata={"may_change": True})
    """skip: largest share of the split that may be bad (one picture is always allowed)."""
    max_pixels: int = 50_000_000
    """Pictures with more pixels than this count as bad and are never decoded."""
    workers: int | None = field(default=None, metadata={"may_change": True})
    """Loader processes; null chooses. Changes the speed, never the result."""


@dataclass(kw_only=True)
class VariantConfig:
    """What is different from the published architecture, for ablations of ViT, DeiT and XCiT."""

    pos_embed: PosEmbed | None = None
    """none, learned (1-D), learned_2d, sincos or relative; null is the model's own. XCiT: none."""
    stem: Stem | None = None
    """linear (one convolution per patch) or conv (3x3 ones of stride 2); null is its own."""
    pool: Pool | None = None
    """token (class token) or avg (mean of the patches, no class token); null is its own."""
    xca: bool = True
    """XCiT: cross-covariance attention; false leaves it out."""
    lpi: bool = True
    """XCiT: local patch interaction; false leaves it out."""
    qk_norm: bool = True
    """XCiT: queries and keys of length 1; false leaves them as they are."""
    learned_temperature: bool = True
    """XCiT: a learned temperature per head; false fixes it at 1."""


@dataclass(kw_only=True)
class ModelConfig:
    """An architecture and its regularisation."""

    name: str = MISSING
    """timm architecture, or one of vitx (vitx models lists both)."""
    image_px: int = 224
    """Side of the pictures it was published for, in pixels; dataset.image_px=null takes it."""
    weights: str | None = field(default=None, metadata={"path": True})
    """Weights to start from: a run, a file of weights, a tag (vitx models), hf-hub:ORG/NAME."""
    run_weights: Weights = Weights.auto
    """Which weights of a run to start from: model, ema, or auto (ema where it kept one)."""
    pos_resize: PosResize = PosResize.bicubic
    """Positions to another grid: bicubic (DeiT), bicubic_antialias (timm), bilinear (ViT)."""
    partial_weights: bool = False
    """Go on where tensors of the weights are missing or left over; both are listed."""
    patch_px: int | None = None
    """Side of a patch in pixels, for models whose patch can be chosen; null is the model's own."""
    drop_path: float = 0.0
    """Stochastic depth rate in [0, 1)."""
    drop_path_rule: DropPathRule | None = None
    """linear (0 to the rate over the depth) or constant; null is the model's own in timm."""
    dropout: float = 0.0
    """Dropout rate before the classifier, in [0, 1)."""
    variant: VariantConfig = field(default_factory=VariantConfig)
    """What is different from the published architecture."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture, plain values only."""


@dataclass(kw_only=True)
class AugmentationConfig:
    """What happens to a training picture and to a training batch, by the papers' terms."""

    crop: Crop = Crop.random_resized
    """random_resized (area and aspect drawn), resize (no crop), pad (pad, random crop)."""
    scale: list[float] = field(default_factory=lambda: [0.08, 1.0])
    """random_resized: smallest and largest share of the area."""
    ratio: list[float] = field(default_factory=lambda: [0.75, 4 / 3])
    """random_resized: smallest and largest aspect ratio."""
    pad_px: int = 4
    """pad: border in pixels."""
    pad_mode: str = "reflect"
    """pad: what the border holds, reflect (the picture mirrored) or constant (black)."""
    interpolation: str = "bicubic"
    """bicubic, bilinear or random, for training; evaluation uses bicubic where this is random."""
    hflip: float = 0.5
    """Probability of a horizontal flip."""
    vflip: float = 0.0
    """Probability of a vertical flip."""
    auto_augment: str | None = None
    """timm string: rand-m9-mstd0.5-inc1 (RandAugment), 3a (3-Augment), original, augmix-m3-w3."""
    color_jitter: float | None = None
    """Strength of brightness, contrast, saturation jitter; unused with RandAugment, as in timm."""
    erase_prob: float = 0.0
    """Random erasing: probability."""
    erase_mode: str = "pixel"
    """Random erasing: fill with const, rand (one colour) or pixel (noise)."""
    erase_count: int = 1
    """Random erasing: largest number of boxes."""
    repeats: int = 1
    """Repeated augmentation: copies of a picture in a row; an epoch keeps its number of samples."""
    epoch_multiple: int = 1
    """Samples of an epoch are rounded down to a multiple of it; DeiT's and XCiT's sampler: 256."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0 is off."""
    cutmix: float = 0.0
    """Alpha of cutmix's Beta distribution; 0 is off."""
    mix_prob: float = 1.0
    """Probability that a batch is mixed at all."""
    mix_switch_prob: float = 0.5
    """Probability of cutmix rather than mixup when both are on."""
    mix_mode: str = "batch"
    """Draw the mixing share per batch, pair or elem."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""
    eval_crop_ratio: float = 0.875
    """Evaluation: side of the centre crop over side of the resized picture."""


@dataclass(kw_only=True)
class ObjectiveConfig:
    """What is minimised."""

    loss: Loss = Loss.cross_entropy
    """cross_entropy, bce (on binarised targets, mean: DeiT III), sigmoid (sum, soft: AugReg)."""


@dataclass(kw_only=True)
class OptimizerConfig:
    """The optimizer, by its name in timm's factory."""

    name: str = "adamw"
    """timm optimizer: adamw, lamb, sgd, ... (timm.optim.list_optimizers())."""
    lr: float = 1e-3
    """Peak learning rate, at a global batch of lr_batch."""
    lr_batch: int | None = None
    """Batch the rate is for: the rate used is lr * batch_size / lr_batch; null is lr itself."""
    weight_decay: float = 0.05
    """Decoupled weight decay; one-dimensional, bias and model-declared parameters have none."""
    decay_all: bool = False
    """Decay every parameter alike."""
    decay_also: list[str] = field(default_factory=list)
    """Patterns of names that decay although the model exempts them: ["pos_embed.*"] for XCiT."""
    decay_never: list[str] = field(default_factory=list)
    """Patterns of names that don't decay: ["*.temperature"] for the one of XCiT."""
    layer_decay: float | None = None
    """Factor of the learning rate from one layer to the one below; null is 1 everywhere."""
    clip_norm: float | None = None
    """Largest global gradient norm; null does not clip."""
    clip_each: bool = False
    """Clip each tensor to clip_norm by itself, as DINO does, instead of all together."""
    momentum: float = 0.9
    """Momentum of those optimizers that take one."""
    betas: list[float] | None = None
    """Betas of those optimizers that take them; null is their default."""
    eps: float | None = None
    """Epsilon of those optimizers that take it; null is their default."""

    def peak_lr(self, batch_size: int) -> float:
        """Return the learning rate used: linear in the global batch where `lr_batch` is given.

        Source: Goyal et al., arXiv 1706.02677; DeiT uses 5e-4 at 512.
        """
        return self.lr if self.lr_batch is None else self.lr * batch_size / self.lr_batch


@dataclass(kw_only=True)
class ScheduleConfig:
    """The learning rate over time."""

    kind: ScheduleKind = ScheduleKind.cosine
    """cosine, linear (to min_lr), step (by decay_rate) or constant."""
    per: Per = Per.step
    """Change it every step or every epoch."""
    warmup: str = "5%"
    """Length of the linear warm-up, inside the run: 5ep, 500st or 5%."""
    warmup_lr: float = 1e-6
    """Learning rate at the start of warm-up."""
    min_lr: float = 1e-5
    """Learning rate at the end."""
    decay_from: DecayFrom = DecayFrom.start
    """start (warm-up takes the place of the first decay: timm, DeiT) or warmup (big_vision)."""
    late: str = "0st"
    """Use the rate of so much earlier: DeiT's and XCiT's code is 1ep late."""
    decay_every: str = "30ep"
    """step: interval of the decay, as 30ep, 500st or 10%."""
    decay_rate: float = 0.1
    """step: factor of each decay."""


@dataclass(kw_only=True)
class EmaConfig:
    """The exponential moving average of the weights."""

    decay: float | None = None
    """Decay per step; null keeps no average. Where there is one, it is evaluated."""
    warmup: bool = False
    """Grow the decay as 1 - (1 + step)^(-2/3) until it reaches decay."""


@dataclass(kw_only=True)
class CheckpointConfig:
    """What is saved, and how much of it is kept."""

    every: str = "1ep"
    """Interval of checkpoints: 1ep, 500st or 10%."""
    keep: int = field(default=2, metadata={"may_change": True})
    """Newest checkpoints kept, at least 2; the best one is kept besides."""


@dataclass(kw_only=True)
class EvaluationConfig:
    """Evaluation on the validation split during training."""

    every: str = "1ep"
    """Interval of evaluations: 1ep, 500st or 10%; the last step is always evaluated."""
    batch_size: int | None = None
    """Pictures per forward pass; null is twice the training micro-batch, at most 256."""


@dataclass(kw_only=True)
class WandbConfig:
    """The W&B mirror of the metrics."""

    mode: WandbMode = WandbMode.off
    """auto (online where a login is found, else offline), online, offline or off."""
    project: str = "vitx"
    """W&B project."""
    entity: str | None = None
    """W&B team or user; null is the login's default."""
    group: str | None = None
    """W&B group; null is the sweep's name inside a sweep, else none."""
    init_timeout_s: int = 10
    """Seconds W&B may take to start before it goes offline."""
    finish_timeout_s: int = 30
    """Seconds W&B may take at the end."""


@dataclass(kw_only=True)
class LoggerConfig:
    """metrics.jsonl is always written; this is what else is."""

    every: str = "10st"
    """Interval of training rows: 10st, 1ep or 1%; values are means over it."""
    wandb: WandbConfig = field(default_factory=WandbConfig, metadata={"may_change": True})
    """The W&B mirror."""


@dataclass(kw_only=True)
class RuntimeConfig:
    """The machine."""

    device: str = field(default="auto", metadata={"may_change": True})
    """auto, cpu, cuda, cuda:1, mps."""
    threads: int | None = field(default=None, metadata={"may_change": True})
    """CPU threads of torch; null is torch's choice. Another number changes the last bits."""
    micro_batch: int | None = None
    """Most pictures in one forward pass; smaller than batch_size accumulates. null: batch_size."""
    compile: bool = False
    """torch.compile the model."""
    channels_last: bool = False
    """Keep pictures and convolutions in channels-last memory order."""


@dataclass(kw_only=True)
class TrainConfig:
    """`vitx train`: everything that determines a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    epochs: str = "30ep"
    """Length of training: 30 or 30ep (epochs) or 5000st (steps)."""
    batch_size: int = 64
    """Global batch: pictures per optimizer step, over all devices and accumulation."""
    precision: Precision = Precision.auto
    """fp32, bf16, fp16; auto is bf16 on a GPU that has it, fp16 on another, fp32 on a CPU."""
    seed: int = 0
    """Everything random follows from it."""
    name: str | None = field(default=None, metadata={"may_change": True})
    """Name of the run; null is <model>-<dataset>-<UTC time>."""
    run_dir: str | None = field(default=None, metadata={"path": True, "may_change": True})
    """Run directory; null is runs/<name>."""
    resume: str = field(default="auto", metadata={"path": True, "may_change": True})
    """auto continues run_dir where it exists; never refuses to; PATH continues that run."""
    stop_at: str | None = field(default=None, metadata={"may_change": True})
    """Save and leave with code 75 here (500st, 3ep, 50%), to go on later; null runs to the end."""

    @property
    def image_px(self) -> int:
        """Side of the pictures the model sees."""
        return self.dataset.image_px or self.model.image_px

    @property
    def micro_batch(self) -> int:
        """Pictures in one forward pass of training."""
        return min(self.runtime.micro_batch or self.batch_size, self.batch_size)


@dataclass(kw_only=True)
class EvalConfig:
    """`vitx eval`: measure a run again, on its own validation split or another dataset."""

    run: str | None = field(default=None, metadata={"path": True})
    """Run directory; null is the newest one."""
    checkpoint: str = "last"
    """last, best, or a step number."""
    weights: Weights = Weights.auto
    """model, ema, or auto: ema where the run kept one."""
    suite: str | None = None
    """Name of the result, eval/<suite>.json and .parquet; null is val, the run's own split."""
    dataset: DatasetConfig | None = None
    """Another dataset with the same classes; null is the run's own."""
    batch_size: int | None = None
    """Pictures per forward pass; null is what training evaluated with."""
    workers: int | None = None
    """Loader processes; null chooses."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


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
