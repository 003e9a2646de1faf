"""Shell completion: what a half-typed word can become. Standard library only, for its speed.

The scripts hand the words to `vitx __complete`, which prints one candidate a line, whole words
each. A candidate that goes on (`model=`, `optimizer.`) ends in `=` or `.`; the line `:files` asks
the shell to complete a file instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vitx.config.schema import CHOICE, FILE, RECIPE
from vitx.config.settings import Setting, groups, options, sections, settings
from vitx.config.words import BARE_FLAGS, CHECKED, FLAGS_WITH_VALUE, PLANNED, split
from vitx.errors import UsageError, VitxError, near_matches

FILES = ":files"
SHELLS = ("bash", "zsh")
_LOOKED_AT = {"check": CHECKED, "doctor": PLANNED}  # verbs that take the words of others

# Bash cuts words at = and : where COMP_WORDBREAKS has them, and replaces the last piece only:
# the pieces are joined for vitx, and what readline keeps is cut off each reply.
_BASH = r"""_vitx() {
    local IFS=$'\n' word kept reply replies
    local -a words=()
    local -i i glue=0
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((glue)) || { ((i > 1)) && [[ $word == [=:]* ]]; }; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
        glue=0
        [[ $word == *[=:] && $COMP_WORDBREAKS == *"${word: -1}"* ]] && glue=1
    done
    word=${words[${#words[@]}-1]}
    kept=""
    [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && kept=${word%"${word##*=}"}
    [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && kept=${word%"${word##*[=:]}"}
    COMPREPLY=()
    replies=$("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null)
    if [[ $replies == :files ]]; then
        word=${word#"$kept"}
        [[ $word == *=* ]] && kept=${word%%=*}= || kept=""
        for reply in $(compgen -f -- "${word#"$kept"}"); do COMPREPLY+=("$kept$reply"); done
        compopt -o filenames 2>/dev/null
        return 0
    fi
    for reply in $replies; do COMPREPLY+=("${reply#"$kept"}"); done
    [[ ${#COMPREPLY[@]} -gt 0 && $replies == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _vitx vitx
"""
_ZSH = r"""#compdef vitx
_vitx() {
    local -a replies
    replies=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    if [[ $replies[1] == :files ]]; then
        compset -P '*='
        _files
        return
    fi
    compadd -S '' -- ${(M)replies:#*[=.]}
    compadd -- ${replies:#*[=.]}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _vitx vitx
"""


def script(shell: str) -> str:
    """Return the completion script of a shell, to be evaluated by it.

    Args:
        shell: bash or zsh.

    Returns:
        Lines of shell code.

    Raises:
        UsageError: there is none for this shell.
    """
    if shell not in SHELLS:
        hint = near_matches(shell, SHELLS)
        raise UsageError(f"completion {shell}: expected {' or '.join(SHELLS)}{hint}")
    return _BASH if shell == "bash" else _ZSH


def complete(words: Sequence[str], verbs: Iterable[str]) -> list[str]:
    """Return what the last word can become.

    Args:
        words: the words behind `vitx`; the last one is being typed and may be empty.
        verbs: the verbs there are.

    Returns:
        Whole words, or `[FILES]` where the shell is to complete a file.
    """
    *before, word = words or [""]
    if not before:
        return _starting([*verbs, "--help", "--version"], word)
    verb = before[0]
    if verb == "completion":
        return _starting(SHELLS, word) if len(before) == 1 else []
    if verb in _LOOKED_AT:
        return _looked_at(_LOOKED_AT[verb], before[1:], word, verbs)
    if verb not in verbs:
        return []
    if before[-1] in FLAGS_WITH_VALUE:
        choices = FLAGS_WITH_VALUE[before[-1]]
        return _starting(choices, word) or ([] if choices else [FILES])
    if before[-1] in ("--help", "-h"):
        return _starting(["all", *sections(verb), *settings(verb)], word)
    if word.startswith("-"):
        return _starting([*FLAGS_WITH_VALUE, *BARE_FLAGS], word)
    if "=" in word:
        return _values(verb, word, before[1:])
    return _names(verb, word)


def _looked_at(
    ahead: Sequence[str], before: list[str], word: str, verbs: Iterable[str]
) -> list[str]:
    """Return what a word behind such a verb can become: one of another verb, or of `train`."""
    if before and before[0] in ahead:
        return complete([*before, word], verbs)
    first = [] if before else _starting(ahead, word)
    return [*first, *complete(["train", *before, word], verbs)]


def _names(verb: str, word: str) -> list[str]:
    """Return what a key can become, one dotted part further."""
    named = (name for name, each in settings(verb).items() if not each.repeated)
    known = [*(f"{group}=" for group in groups(verb)), *(f"{name}=" for name in named)]
    free = [each for each in settings(verb).values() if each.positional]
    files = [each for each in free if each.positional == FILE]
    if files and not word:
        return [FILES]
    if any(each.repeated for each in files) and not _starting(known, word):
        return [FILES]
    parts = _starting([option for each in free for option in _options_of(each)], word)
    for name in _starting(known, word):
        head, dot, _ = name[len(word) :].partition(".")
        parts.append(word + head + dot)
    return list(dict.fromkeys(parts))


def _options_of(setting: Setting) -> Sequence[str]:
    """Return what a word without `=` can be."""
    if setting.positional == CHOICE:
        return setting.choices
    if setting.positional == RECIPE:
        from vitx.config.recipes import recipes

        return tuple(recipes())
    return options(setting.positional)


def _values(verb: str, word: str, before: Sequence[str]) -> list[str]:
    """Return what `key=value` can become behind its last comma."""
    key, _, value = word.partition("=")
    name = key.lstrip("+")
    listed, comma, _ = value.rpartition(",")
    head = f"{key}={listed}{comma}"
    setting = settings(verb).get(name)
    if setting is not None and setting.path:
        return [FILES]
    if setting is not None:
        candidates = [*setting.choices, *(["null"] if setting.nullable else [])]
    elif group := groups(verb, _folders(verb, before)).get(name):
        candidates = [*group.options]
    else:
        candidates = []
    return _starting([head + candidate for candidate in candidates], word)


def _folders(verb: str, before: Sequence[str]) -> list[Path]:
    try:
        return split(verb, before).folders
    except VitxError:
        return []


def _starting(candidates: Iterable[str], word: str) -> list[str]:
    return [candidate for candidate in candidates if candidate.startswith(word)]
