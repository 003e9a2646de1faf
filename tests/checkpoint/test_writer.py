"""Writing beside training: what is held, what is replaced, what is missed and tried again."""

import contextlib
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.checkpoint.small import same, snapshot
from vitx.checkpoint import writer as writing
from vitx.checkpoint.snapshot import Snapshot
from vitx.checkpoint.store import load, path_of, steps_in
from vitx.checkpoint.writer import Writer
from vitx.errors import StorageError

PATIENCE_S = 30.0


class Desk:
    """A writer, what it said, and a gate that it waits at before each commit."""

    def __init__(self, folder: Path, *, keep: int = 9) -> None:
        self.folder, self.said = folder, list[str]()
        self.steps_before_commit: list[list[int]] = []
        self.gate, self.waits = threading.Event(), threading.Event()
        self.gate.set()
        self.writer = Writer(
            folder,
            keep=keep,
            is_due=bool,
            before_commit=self._before_commit,
            say=self.said.append,
        )

    def _before_commit(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.steps_before_commit.append(steps_in(self.folder))
        self.waits.set()
        assert self.gate.wait(PATIENCE_S)

    def shut(self) -> None:
        """Let the next commit wait."""
        self.gate.clear()
        self.waits.clear()

    def hand(self, step: int, best: int | None = None, value: float | None = None) -> None:
        self.writer.hand_over(snapshot(step, value=value), best_step=best)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(**options: int) -> Desk:
        desks.append(Desk(tmp_path / f"checkpoints-{len(desks)}", **options))
        return desks[-1]

    yield make
    for each in desks:
        each.gate.set()
        each.writer.close()


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Let no file grow beyond a few bytes, as where a quota is used up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_step_goes_on_while_its_snapshot_is_written(desk: Callable[..., Desk]) -> None:
    held = desk()
    held.shut()
    live = snapshot(3)
    held.writer.hand_over(live, best_step=None)
    assert held.waits.wait(PATIENCE_S)  # written by another thread, and not done
    for tensors in live.tensors.values():
        for tensor in tensors.values():
            tensor.add_(1)  # as the next step does
    live.state["train"]["step"] = 4
    assert steps_in(held.folder) == []

    held.gate.set()
    held.writer.finish()

    assert same(load(path_of(held.folder, 3)), snapshot(3))


def test_rows_are_durable_before_a_commit_and_old_ones_go_after_it(
    desk: Callable[..., Desk],
) -> None:
    held = desk(keep=2)
    for step in range(1, 6):
        held.hand(step)
        held.writer.wait()

    assert held.steps_before_commit == [[], [1], [1, 2], [2, 3], [3, 4]]
    assert steps_in(held.folder) == [4, 5]


@pytest.mark.parametrize(
    ("handed", "committed"),
    [
        # (step, best step when it was taken), while step 1 is being written
        ([(2, None), (3, None), (4, None)], [1, 4]),
        ([(2, 2), (3, 2), (4, 2)], [1, 2, 4]),
        ([(2, 2), (3, 2), (4, 4)], [1, 4]),
        ([(2, 2), (3, 3), (4, 3), (5, 3)], [1, 3, 5]),
        ([(2, 1), (3, 1)], [1, 3]),
        ([(2, 2), (2, 2)], [1, 2]),
    ],
)
def test_the_newest_takes_the_place_of_those_that_wait_but_for_the_best(
    handed: list[tuple[int, int | None]], committed: list[int], desk: Callable[..., Desk]
) -> None:
    held = desk()
    held.shut()
    held.hand(1)
    assert held.waits.wait(PATIENCE_S)
    for step, best in handed:
        held.hand(step, best)

    held.gate.set()
    held.writer.finish()

    assert steps_in(held.folder) == committed
    for step in committed:
        assert same(load(path_of(held.folder, step)), snapshot(step))


def test_the_last_finite_one_outlives_any_number_of_others(desk: Callable[..., Desk]) -> None:
    held = desk(keep=2)
    for step in range(1, 4):
        held.hand(step)
        held.writer.wait()
    for step in range(4, 12):
        held.shut()
        held.hand(step, value=float("nan"))
        assert held.waits.wait(PATIENCE_S)
        held.hand(step + 100, value=float("inf"))  # waits, and is replaced or written next
        held.gate.set()
        held.writer.wait()
        assert 3 in steps_in(held.folder)

    held.writer.finish()

    assert steps_in(held.folder) == [3, 110, 111]
    assert same(load(path_of(held.folder, 3)), snapshot(3))


def test_what_was_saved_before_is_not_written_again(desk: Callable[..., Desk]) -> None:
    held = desk()
    held.hand(3)
    held.writer.wait()
    first = path_of(held.folder, 3).stat().st_ino
    held.hand(3)
    held.writer.wait()
    assert path_of(held.folder, 3).stat().st_ino == first

    again = Snapshot(step=3, tensors=snapshot(3, value=7.0).tensors, state={"evaluated": True})
    held.writer.hand_over(again, best_step=None)
    held.writer.wait()

    assert same(load(path_of(held.folder, 3)), again)


def test_a_miss_changes_nothing_and_the_next_one_is_tried(desk: Callable[..., Desk]) -> None:
    held = desk()
    held.hand(1)
    held.writer.wait()
    before = contents(held.folder)
    with no_room():
        held.hand(2)
        held.writer.wait()
        held.writer.report()
        held.writer.report()
    assert contents(held.folder) == before
    (line,) = held.said
    assert line.startswith("warning: ")
    assert "step-00000002 can't be written" in line
    assert "kept: step-00000001; training goes on" in line

    held.hand(3)
    held.writer.finish()

    assert steps_in(held.folder) == [1, 3]
    assert len(held.said) == 1


def test_a_best_step_that_was_missed_is_tried_with_the_next(desk: Callable[..., Desk]) -> None:
    held = desk()
    with no_room():
        held.hand(2, best=2)
        held.writer.wait()
        held.hand(3, best=2)
        held.writer.wait()
    assert steps_in(held.folder) == []

    held.hand(4, best=2)
    held.writer.finish()

    assert steps_in(held.folder) == [2, 4]


def test_three_misses_in_a_row_are_the_end(desk: Callable[..., Desk]) -> None:
    held = desk()
    held.hand(1)
    held.writer.wait()
    for first in (2, 5):
        with no_room():
            for step in (first, first + 1):
                held.hand(step)
                held.writer.wait()
                held.writer.report()
        held.hand(first + 2)  # a success between them: they are counted anew
        held.writer.wait()
    with no_room():
        for step in (8, 9, 10):
            held.writer.report()
            held.hand(step)
            held.writer.wait()

        with pytest.raises(StorageError, match="3 checkpoints in a row were missed, kept: step-"):
            held.writer.report()

    assert steps_in(held.folder) == [1, 4, 7]
    assert len(held.said) == 2 + 2 + 2  # the error says the last one


def test_the_last_one_is_tried_again_and_again(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "RETRY_AFTER_S", (0.01, 0.02, 0.04))
    held = desk()
    with no_room():
        held.hand(1)
        with pytest.raises(StorageError, match="step-00000001 can't be written"):
            held.writer.finish()
    assert [line.rpartition("; ")[2] for line in held.said] == [
        f"trying again in {pause} s" for pause in ("0.01", "0.02", "0.04")
    ]
    assert len(held.steps_before_commit) == 4

    held.writer.finish()  # there is room now

    assert steps_in(held.folder) == [1]


def test_room_that_is_made_meanwhile_is_enough(desk: Callable[..., Desk]) -> None:
    held = desk()
    with contextlib.ExitStack() as shortage:
        shortage.enter_context(no_room())
        held.hand(1)
        held.writer.wait()
        relief = threading.Timer(0.3, shortage.close)
        relief.start()
        held.writer.finish()  # tried again after a second
        relief.join()

    assert steps_in(held.folder) == [1]


def test_a_bug_in_the_thread_is_no_miss(tmp_path: Path) -> None:
    def break_down() -> None:
        raise TypeError("a bug")

    for ending in ("report", "finish"):
        writer = Writer(tmp_path, keep=2, is_due=bool, before_commit=break_down, say=print)
        writer.hand_over(snapshot(1), best_step=None)
        with contextlib.suppress(TypeError):
            writer.wait()
        with pytest.raises(TypeError, match="a bug"):
            getattr(writer, ending)()
        writer.close()  # raises nothing: something else is being raised


def test_closing_commits_what_waits(desk: Callable[..., Desk]) -> None:
    held = desk()
    held.shut()
    held.hand(1)
    assert held.waits.wait(PATIENCE_S)
    held.hand(2)
    threading.Timer(0.2, held.gate.set).start()

    held.writer.close()

    assert steps_in(held.folder) == [1, 2]
    assert not [each for each in threading.enumerate() if each.name.startswith("checkpoint")]
