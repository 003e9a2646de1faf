"""What settings with a few named values can be."""

from __future__ import annotations

from enum import Enum


class DatasetKind(Enum):
    """Where images come from."""

    digits = "digits"
    folder = "folder"
    hub = "hub"


# The functional form, since `raise` can't be written as an attribute; OmegaConf reads names.
BadImage = Enum("BadImage", {"raise": "raise", "skip": "skip"})
"""What to do with a picture that can't be decoded."""


NonFinite = Enum("NonFinite", {"raise": "raise", "skip": "skip", "rollback": "rollback"})
"""What to do about a gradient that is NaN or infinite."""


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


class Teaching(Enum):
    """What a student takes from its teacher."""

    hard = "hard"
    soft = "soft"


class Head(Enum):
    """Which answer of a model with a distillation token counts."""

    mean_logits = "mean_logits"
    mean_softmax = "mean_softmax"
    class_head = "class_head"
    distill_head = "distill_head"


class Protocol(Enum):
    """How a model's answers are found."""

    head = "head"
    knn = "knn"
    logistic = "logistic"
    sgd = "sgd"
    few_shot = "few_shot"


class EvalCombine(Enum):
    """Of what several runs are averaged."""

    probabilities = "probabilities"
    weights = "weights"


class EvalCrop(Enum):
    """What of a picture a model is shown when it is measured."""

    own = "own"
    c875 = "c875"
    c900 = "c900"
    c950 = "c950"
    c1000 = "c1000"
    squash = "squash"


# The functional form, since `class` can't be written as an attribute.
Token = Enum(
    "Token",
    {
        "pre_logits": "pre_logits",
        "class": "class",
        "mean_patch": "mean_patch",
        "class_and_mean": "class_and_mean",
        "last4_class": "last4_class",
    },
)
"""Which tokens of a model are the features of a picture."""


class Combine(Enum):
    """What several teachers say together."""

    average = "average"
    draw = "draw"


class Keeping(Enum):
    """What is stored of a teacher."""

    none = "none"
    outputs = "outputs"


class Mixed(Enum):
    """What a stored answer to a mixed picture is."""

    output = "output"
    mix = "mix"


class Divided(Enum):
    """What a sum over pictures and classes is divided by."""

    batch = "batch"
    numel = "numel"


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


class SweepAction(Enum):
    """What to do about a sweep."""

    status = "status"
    resume = "resume"


class Strategy(Enum):
    """How several processes train one model."""

    ddp = "ddp"
    fsdp = "fsdp"


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


class TortureAction(Enum):
    """What to do with faults."""

    run = "run"
    list = "list"
