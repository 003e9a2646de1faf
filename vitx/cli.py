"""The command line: finds the verb, hands it the words, and turns every end into an exit code.

Standard library only at import, so that help and completion answer at once; a verb imports what
it needs when it runs.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from functools import partial

from vitx import __version__
from vitx.errors import (
    StorageError,
    UsageError,
    VitxError,
    as_request,
    as_storage_error,
    near_matches,
)

VERBS = {
    "train": "train a model: vitx train model=xcit_s12 dataset=cifar10",
    "distill": "train a student with a teacher: vitx distill teacher=regnet",
    "check": "everything but the training: vitx check model=xcit_s12; vitx check eval run=runs/x",
    "doctor": "what is wrong with this environment, and what mends it: vitx doctor model=deit_b",
    "eval": "measure a run again: vitx eval run=runs/x",
    "predict": "what is in pictures, by a run: vitx predict cat.jpg photos/ run=runs/x",
    "compare": "are runs really different? vitx compare runs/a runs/b",
    "sweep": "where the jobs of a sweep stand, or go on with it: vitx sweep status|resume",
    "models": "list the models with their size and published results: vitx models 'xcit_*'",
    "recipe": "run a paper's result again beside its number: vitx recipe show deit_s",
    "torture": "kill, stop, damage and starve small runs here; same bytes? vitx torture kills=100",
    "import": "turn a foreign file of weights into safetensors: vitx import deit.pth",
    "completion": 'complete words in the shell: eval "$(vitx completion bash)"',
}
"""Every verb with its one line of help; `vitx.commands` has a module of each name."""

# Hydra composes nothing for them.
_PLAIN = {"compare", "predict", "models", "recipe", "torture", "import", "sweep"}
_LOOKING = {"check", "doctor"}  # verbs that take the words of another
_CONFIG_PACKAGES = {"hydra", "omegaconf", "yaml"}
_CLOSED_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: the words behind `vitx`; those of the process by default.

    Returns:
        The exit code: 0, or that of the `VitxError` that ended it, or 1 for a bug.
    """
    return _be_the_program() if argv is None else _carry_out(list(argv))


def _be_the_program() -> int:
    """Carry out the words of the process, in whatever surroundings, whenever it is asked to stop.

    Returns:
        The exit code.
    """
    # Handlers and descriptors are of a process: they are left alone where another calls `main`.
    from vitx.runtime.signals import StandBy
    from vitx.streams import settle_descriptors, settle_streams

    words = sys.argv[1:]
    trains = words[:1] in (["train"], ["distill"]) and not {"-m", "--multirun"} & {*words}
    stand_by = StandBy(" before training began" if trains else "")
    try:
        stand_by.begin()
        settle_descriptors()
        _insist_on_utf8()
        settle_streams()
        code = _carry_out(words)
    except KeyboardInterrupt as error:  # before it began, or while another end was told
        code = _report(error, words)
    stand_by.conclude(code)
    return code


def _carry_out(words: list[str]) -> int:
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        if code == 0:
            _demand_output()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return _leave_closed_pipe()
        return _report(error, words)
    except KeyboardInterrupt as error:
        return _report(error, words)
    return code


def _insist_on_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale would have names of files otherwise."""
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def _demand_output() -> None:
    """Say of what is done that it was not all told.

    Raises:
        StorageError: so it is.
    """
    from vitx.streams import output_error

    if why := output_error():
        raise StorageError(f"stdout can't be written: {why}; all else is done")


def _dispatch(words: list[str]) -> int:
    match words:
        case []:
            sys.stderr.write(_overview())
            return UsageError.exit_code
        case ["--help" | "-h" | "help"]:
            sys.stdout.write(_overview())
        case ["--version" | "-V"]:
            sys.stdout.write(f"vitx {__version__}\n")
        case ["__complete", *typed]:
            return _complete(typed)
        case ["completion", *rest]:
            return _completion(rest)
        case [verb, *rest] if verb in VERBS:
            return _run(verb, rest)
        case _:
            raise UsageError(_unknown_verb(words[0]))
    return 0


def _run(verb: str, args: list[str]) -> int:
    from vitx.config.screening import screen
    from vitx.config.words import split

    if "--version" in args:
        return _dispatch(["--version"])
    module = "import_" if verb == "import" else verb  # a word of Python
    command = partial(importlib.import_module, f"vitx.commands.{module}")
    if verb in _LOOKING:
        return int(command().main(args))
    if verb in _PLAIN and not {"--help", "-h"} & set(args):
        return int(command().main(args))
    words = split(verb, args)
    if words.has("--help", "-h"):
        from vitx.config.manual import page

        # Whoever adds --help to a whole command line asks for no topic.
        topic = next((word for word in reversed(words.overrides) if "=" not in word), None)
        sys.stdout.write(page(verb, topic, folders=words.folders))
        return 0
    screen(verb, words)
    return int(command().main(args))


def _complete(typed: list[str]) -> int:
    from vitx.config.completion import complete

    for candidate in complete(typed, VERBS):
        sys.stdout.write(f"{candidate}\n")
    return 0


def _completion(args: list[str]) -> int:
    from vitx.config.completion import SHELLS, script

    match args:
        case ["--help" | "-h"]:
            for shell in SHELLS:
                sys.stdout.write(f'in ~/.{shell}rc: eval "$(vitx completion {shell})"\n')
        case [shell]:
            sys.stdout.write(script(shell))
        case _:
            raise UsageError(f"expected one shell; type vitx completion {'|'.join(SHELLS)}")
    return 0


def _overview() -> str:
    lines = [f"  {verb:<11} {meaning}" for verb, meaning in VERBS.items()]
    return "\n".join(
        [
            f"vitx {__version__}: train and examine vision transformers",
            "",
            "usage: vitx <verb> [group=option ...] [setting=value ...] [flags]",
            "",
            *lines,
            "",
            "vitx <verb> --help says what can be set.",
            "",
        ]
    )


def _unknown_verb(word: str) -> str:
    if "=" in word:
        return f"expected a verb before {word}; type vitx train {word}"
    hint = near_matches(word, VERBS)
    return f"no verb '{word}'{hint or '; there are ' + ', '.join(VERBS)}"


def _report(error: BaseException, words: list[str]) -> int:
    """Say on stderr how it ended.

    Returns:
        The exit code.
    """
    from vitx.redaction import shown

    verb = words[0] if words and words[0] in VERBS else ""
    title = f"vitx {verb}".strip()
    known = _as_vitx_error(error, verb, words[1:])
    if known is not None:
        line = shown(f"{title}: {known}")
        sys.stderr.write(f"{line}\n")
        _leave_word(known, line, known.exit_code)
        return known.exit_code
    lines = shown("".join(traceback.format_exception(error)))
    sys.stderr.write(
        f"{lines}{title}: this is a bug in vitx {__version__}; please report the lines above\n"
    )
    _leave_word(error, lines, 1)
    return 1


def _leave_word(error: BaseException, text: str, code: int) -> None:
    if "RANK" in os.environ:  # one of several processes, which torchrun may have started
        from vitx.runtime.root_cause import leave_word

        leave_word(error, text, code)


def _as_vitx_error(error: BaseException, verb: str, args: list[str]) -> VitxError | None:
    """Return the end that an exception stands for; None for a bug."""
    if (request := as_request(error)) is not None:
        return request
    if isinstance(error, VitxError):
        return error
    packages = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    if verb and packages & _CONFIG_PACKAGES and isinstance(error, Exception):
        from vitx.config.hints import explain

        return UsageError(explain(error, verb, args))
    return as_storage_error(error)


def _reader_is_gone() -> bool:
    # A pipe between processes of a run can break too: that is no quiet end.
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _leave_closed_pipe() -> int:
    # The reader of stdout is gone; without this the interpreter's last flush would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _CLOSED_PIPE
