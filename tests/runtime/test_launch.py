"""What `launch` makes of how its ranks end, without a run around it."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.train.tiny import LOADERS_FORK
from vitx.config.schema import RuntimeConfig
from vitx.errors import DataError, RankLostError, UsageError
from vitx.runtime.launch import launch, meet
from vitx.runtime.world import ALONE, World

pytestmark = LOADERS_FORK


def test_a_launcher_that_inherited_ignored_children_learns_how_they_end() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(DataError, match=r"^the cause$"):
            launch(go_wrong(raise_data_error), ALONE, RuntimeConfig(devices=2))
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_a_rank_says_at_length_is_told_whole() -> None:
    def long_story(world: World) -> None:
        raise DataError("x" * 1_000_000)

    with pytest.raises(DataError, match=r"^x{1000000}$"):
        launch(long_story, ALONE, RuntimeConfig(devices=2))


def test_the_environment_of_torchrun_is_read_with_care(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE=two: expected a number"):
        meet(RuntimeConfig())


def go_wrong(how: Callable[[World], None]) -> Callable[[World], None]:
    """Return a story in which rank 1 goes wrong while the others wait for it."""

    def story(world: World) -> None:
        world.gather(0)
        with world.losses():
            if world.rank == 1:
                how(world)
            world.gather(1)

    return story


def raise_value_error(world: World) -> None:
    raise ValueError("the cause")


def raise_data_error(world: World) -> None:
    raise DataError("the cause")


def leave(world: World) -> None:
    os._exit(0)


def crash(world: World) -> None:
    os.kill(os.getpid(), signal.SIGXCPU)


@pytest.mark.parametrize(
    ("how", "kind", "told"),
    [
        (raise_value_error, RankLostError, r"rank 1 \(process \d+\) failed: ValueError: the cause"),
        (raise_data_error, DataError, r"^the cause$"),
        (leave, RankLostError, r"rank 1 .* ended without a word, exit code 0"),
        (crash, RankLostError, r"rank 1 .* was ended by SIGXCPU"),
    ],
)
@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_the_cause_is_told_and_not_its_consequences(
    times: int, how: Any, kind: type[Exception], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(times):
        with pytest.raises(kind, match=told):
            launch(go_wrong(how), ALONE, RuntimeConfig(devices=3))
    if how is raise_value_error:
        assert "in raise_value_error" in capfd.readouterr().err


def test_what_rank_0_reads_the_others_receive() -> None:
    def story(world: World) -> None:
        assert world.first(lambda: {"of": world.rank, "x": 0.1}) == {"of": 0, "x": 0.1}
        assert world.gather(world.rank) == [0, 1, 2]
        assert world.highest(10 * (world.rank == 1)) == 10
        with pytest.raises(UsageError, match="of rank 0"):
            world.first(lambda: refuse(world.rank))

    def refuse(rank: int) -> None:
        raise UsageError(f"of rank {rank}")

    launch(story, ALONE, RuntimeConfig(devices=3))
