"""The configuration: every setting, its type, default, unit and meaning.

The string under a field is its documentation; `vitx <verb> --help` prints it. YAML under `conf/`
only selects and combines these fields. Importing this module imports neither torch nor OmegaConf.

Field metadata:
    path: the value is a path; the command line takes it as it is, commas and all.
    positional: a word without `=` is its value; says what completes it.
    may_change: the value may differ when a run is resumed.
"""

from __future__ import annotations

from vitx.config.schema.choices import (
    BadImage,
    Combine,
    Crop,
    DatasetKind,
    DecayFrom,
    Divided,
    DropPathRule,
    EvalCombine,
    EvalCrop,
    Head,
    Keeping,
    Loss,
    Mixed,
    NonFinite,
    Order,
    Per,
    Pool,
    PosEmbed,
    PosResize,
    Precision,
    Protocol,
    RecipeAction,
    Scale,
    ScheduleKind,
    Stem,
    Strategy,
    SweepAction,
    Teaching,
    Token,
    TortureAction,
    WandbMode,
    Weights,
)
from vitx.config.schema.data import AugmentationConfig, DatasetConfig
from vitx.config.schema.distil import (
    DistillationConfig,
    DistillConfig,
    TeacherConfig,
    TeacherSource,
)
from vitx.config.schema.marks import CHOICE, FILE, MISSING, RECIPE
from vitx.config.schema.model import ModelConfig, VariantConfig
from vitx.config.schema.optimisation import (
    EmaConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from vitx.config.schema.train import (
    CheckpointConfig,
    EvaluationConfig,
    LoggerConfig,
    RuntimeConfig,
    TrainConfig,
    WandbConfig,
)
from vitx.config.schema.verbs import (
    CompareConfig,
    EvalConfig,
    ImportConfig,
    ModelsConfig,
    PredictConfig,
    ProbeConfig,
    RecipeConfig,
    SweepConfig,
    TortureConfig,
)

__all__ = [
    "AugmentationConfig",
    "BadImage",
    "CHOICE",
    "CheckpointConfig",
    "Combine",
    "CompareConfig",
    "Crop",
    "DatasetConfig",
    "DatasetKind",
    "DecayFrom",
    "DistillConfig",
    "DistillationConfig",
    "Divided",
    "DropPathRule",
    "EmaConfig",
    "EvalCombine",
    "EvalConfig",
    "EvalCrop",
    "EvaluationConfig",
    "FILE",
    "Head",
    "ImportConfig",
    "Keeping",
    "LoggerConfig",
    "Loss",
    "MISSING",
    "Mixed",
    "ModelConfig",
    "ModelsConfig",
    "NonFinite",
    "ObjectiveConfig",
    "OptimizerConfig",
    "Order",
    "Per",
    "Pool",
    "PosEmbed",
    "PosResize",
    "Precision",
    "PredictConfig",
    "ProbeConfig",
    "Protocol",
    "RECIPE",
    "RecipeAction",
    "RecipeConfig",
    "RuntimeConfig",
    "Scale",
    "ScheduleConfig",
    "ScheduleKind",
    "Stem",
    "Strategy",
    "SweepAction",
    "SweepConfig",
    "TeacherConfig",
    "TeacherSource",
    "Teaching",
    "Token",
    "TortureAction",
    "TortureConfig",
    "TrainConfig",
    "VariantConfig",
    "WandbConfig",
    "WandbMode",
    "Weights",
]
