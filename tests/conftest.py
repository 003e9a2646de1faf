"""For all tests: torch's threads wait as they do in the program; timm as vitx imports it."""

from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import pytest

from vitx.runtime.openmp import wait_politely
from vitx.torture.verdicts import Lacking

wait_politely()

TESTS = Path(__file__).parent
# What takes a test run from two minutes to twelve: programs, teachers, recipes, published sizes.
THOROUGH = frozenset(
    {
        "callbacks/test_guard.py",
        "commands/test_check.py",
        "commands/test_compare.py",
        "commands/test_distill.py",
        "commands/test_distill_cached.py",
        "commands/test_distill_students.py",
        "commands/test_doctor.py",
        "commands/test_eval.py",
        "commands/test_going_on.py",
        "commands/test_import.py",
        "commands/test_predict.py",
        "commands/test_recipe.py",
        "commands/test_storage.py",
        "commands/test_suites.py",
        "commands/test_surroundings.py",
        "commands/test_sweep.py",
        "commands/test_sweep_resume.py",
        "commands/test_touched.py",
        "commands/test_train.py",
        "data/test_hub_network.py",
        "doctor/test_communication.py",
        "evaluate/corruptions/test_corrupt.py",
        "evaluate/corruptions/test_mce.py",
        "evaluate/corruptions/test_procedures.py",
        "evaluate/corruptions/test_published.py",
        "evaluate/probes/test_few_shot.py",
        "evaluate/probes/test_logistic.py",
        "evaluate/probes/test_nearest.py",
        "evaluate/probes/test_sgd.py",
        "evaluate/suites/test_published.py",
        "evaluate/test_attention.py",
        "evaluate/test_coverage.py",
        "evaluate/test_feature_store.py",
        "evaluate/test_features.py",
        "evaluate/test_over_seeds.py",
        "evaluate/test_ranks.py",
        "loggers/test_wandb.py",
        "models/test_build.py",
        "models/test_distillation_token.py",
        "models/test_foreign.py",
        "models/test_published_sizes.py",
        "objectives/test_encoding.py",
        "runtime/test_launch.py",
        "runtime/test_ranks.py",
        "runtime/test_signals.py",
        "runtime/test_stand_by.py",
        "security/test_configs.py",
        "security/test_hydra_section.py",
        "security/test_names.py",
        "security/test_secrets.py",
        "security/test_unpickling.py",
        "teaching/test_identity.py",
        "test_cli.py",
        "test_conf.py",
        "test_experiments.py",
        "test_readme.py",
        "test_setup.py",
        "test_wheel.py",
        "torture/test_torture.py",
        "train/test_exact_resume.py",
        "train/test_exact_variants.py",
        "train/test_exact_world.py",
        "train/test_scarce.py",
        "train/test_sharded.py",
        "train/test_world.py",
    }
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of such files, before they are chosen from by their marks."""
    for item in items:
        if item.path.is_relative_to(TESTS) and str(item.path.relative_to(TESTS)) in THOROUGH:
            item.add_marker(pytest.mark.thorough)


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    from vitx.runtime.torchvision_ops import declare_missing_ops

    declare_missing_ops()
    import timm

    return timm


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip what the machine allows no answer to."""
    try:
        yield
    except Lacking as lacking:
        pytest.skip(str(lacking))
