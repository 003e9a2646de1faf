"""Hugging Face datasets: a repository on the Hub, or a local directory of the same layout."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from vitx.config.schema import DatasetConfig
from vitx.data.found import Found, FoundSplit, choose_train, choose_val, listed
from vitx.errors import DataError, near_matches

if TYPE_CHECKING:
    import datasets

# Readers of `datasets` that yield pictures and run nothing of what a repository brings along.
READERS = ("parquet", "arrow", "imagefolder", "webdataset")
_REASON_LENGTH = 300


def read_hub(config: DatasetConfig, *, val_only: bool) -> Found:
    """Find the splits of a repository `org/name`, a local copy of one, or a `save_to_disk` folder.

    A local directory is read without any network. Pictures may be an Image column, bytes, or
    structs of bytes and path; they stay encoded.

    Args:
        config: the repository, its subset and revision, the splits and columns.
        val_only: no training split is wanted.

    Returns:
        The splits; no validation split where there is none.

    Raises:
        DataError: the dataset can't be had, or lacks a split or a column.
    """
    where = f"dataset.path={config.path}"
    splits = _load(config, where)
    train: FoundSplit | None = None
    if not val_only:
        name = choose_train(splits, config, where=where)
        train = _as_split(name, splits[name], config, where)
    val_name = choose_val(splits, config, where=where, alone=val_only)
    val = None if val_name is None else _as_split(val_name, splits[val_name], config, where)
    notes = []
    if config.revision is not None and _local(config.path).is_dir():
        notes.append(f"dataset.revision={config.revision} is not used: {where} is a directory")
    return Found(train=train, val=val, notes=notes)


def to_download(config: DatasetConfig) -> str:
    """Return what of a repository would be downloaded first; empty where it is here.

    Only its list of files is asked for.

    Raises:
        DataError: it can't be had.
    """
    if config.path is None or _local(config.path).is_dir() or not _is_repository(config.path):
        return ""
    with _silent():
        try:
            builder, _ = _builder(config.path, config)
        except DataError:
            raise
        except Exception as error:
            reason = _explain(error, remote=True)
            raise DataError(f"dataset.path={config.path}: {reason}") from error
    if Path(builder.cache_dir).is_dir():
        return ""
    size = builder.info.download_size
    return config.path + (f", {size / 2**30:.3g} GiB" if size else ", of a size it does not tell")


def _load(config: DatasetConfig, where: str) -> dict[str, datasets.Dataset]:
    if config.path is None:
        raise DataError("dataset=hub: expected dataset.path=org/name or a local directory")
    local = _local(config.path)
    if not local.is_dir() and not _is_repository(config.path):
        what = "a file" if local.exists() else "nothing"
        raise DataError(f"{where}: expected org/name or a directory, found {what} at {local}")
    # A download may take hours: whoever watches sees how far it is.
    with _silent(bars=not local.is_dir() and sys.stderr.isatty()):
        try:
            if not local.is_dir():
                return _build(config.path, config)
            if (local / "state.json").is_file() or (local / "dataset_dict.json").is_file():
                return _saved(local, config)
            return _build(str(local), config)
        except DataError:
            raise
        except Exception as error:  # what can go wrong here is up to four libraries and the data
            raise DataError(f"{where}: {_explain(error, remote=not local.is_dir())}") from error


def _local(path: str | None) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path or "")))


def _is_repository(path: str) -> bool:
    # A bare name such as `parquet` would be taken for a reader of the files in this directory.
    parts = path.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)


def _builder(path: str, config: DatasetConfig) -> tuple[datasets.DatasetBuilder, str]:
    """Return what would read a dataset, and its name; nothing is read yet."""
    from datasets import load_dataset_builder

    # These arguments and no others: nothing out of a configuration reaches `datasets` unnamed.
    builder = load_dataset_builder(path, name=config.subset, revision=config.revision)
    reader = type(builder).__module__.rsplit(".", 1)[-1]
    if reader not in READERS:
        raise DataError(
            f"dataset.path={config.path}: expected files of {listed(READERS)}, found {reader}"
        )
    return builder, reader


def _build(path: str, config: DatasetConfig) -> dict[str, datasets.Dataset]:
    builder, reader = _builder(path, config)
    builder.download_and_prepare()
    splits = dict(builder.as_dataset())
    if reader == "parquet":
        _restore_names(splits, builder.config.data_files, config.label_column)
    return splits


def _restore_names(
    splits: dict[str, datasets.Dataset], files: Mapping[str, Sequence[str]], column: str
) -> None:
    # `datasets` gives every split the class names of the first one: labels of a split that was
    # written with other names would silently change their meaning. Each file says its own.
    from datasets import ClassLabel, Features

    written: dict[str, tuple[str, ...]] = {}
    for name, paths in files.items():
        if os.path.isfile(paths[0]):
            feature = Features.from_arrow_schema(pq.read_schema(paths[0])).get(column)
            if isinstance(feature, ClassLabel) and feature.names:
                written[str(name)] = tuple(feature.names)
    if len(set(written.values())) > 1:
        for name, names in written.items():
            splits[name] = splits[name].cast_column(column, ClassLabel(names=list(names)))


def _saved(folder: Path, config: DatasetConfig) -> dict[str, datasets.Dataset]:
    from datasets import Dataset, load_from_disk

    loaded = load_from_disk(str(folder))
    if isinstance(loaded, Dataset):
        return {str(loaded.split or config.train_split): loaded}
    return dict(loaded)


def _as_split(name: str, data: datasets.Dataset, config: DatasetConfig, where: str) -> FoundSplit:
    import datasets

    known = data.column_names
    for setting in ("image_column", "label_column"):
        wanted = getattr(config, setting)
        if wanted not in known:
            raise DataError(
                f"{where}: split {name!r} has no column {wanted!r}, it has {listed(known)}"
                f"{near_matches(wanted, known)}; set dataset.{setting}"
            )
    data = _undecoded(data.with_format(None), config.image_column, f"{where}: split {name!r}")
    feature = data.features[config.label_column]
    return FoundSplit(
        name=name,
        data=data,
        image_column=config.image_column,
        labels=data.data.table.column(config.label_column),
        where=f"{where}: {name} labels (column {config.label_column!r})",
        names=tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else None,
    )


def _undecoded(data: datasets.Dataset, column: str, where: str) -> datasets.Dataset:
    from datasets import Image

    kind = data.data.table.schema.field(column).type
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    is_picture = pa.types.is_struct(kind) and {field.name for field in kind} <= {"bytes", "path"}
    if not (is_bytes or is_picture):
        raise DataError(
            f"{where}: expected encoded pictures in column {column!r} (an Image, bytes, or bytes "
            f"and path), got {kind}; set dataset.image_column"
        )
    with _silent():
        try:
            return data.cast_column(column, Image(decode=False))
        except Exception as error:  # of a damaged file or a column that does not fit
            raise DataError(f"{where}: {_explain(error, remote=False)}") from error


def _explain(error: Exception, *, remote: bool) -> str:
    from datasets.exceptions import DatasetNotFoundError

    causes = [error]
    while (cause := causes[-1].__cause__) is not None and isinstance(cause, Exception):
        causes.append(cause)
    # The deepest cause names the file and the fault; the wrappers say "an error occurred".
    told = error if isinstance(error, DatasetNotFoundError | ConnectionError) else causes[-1]
    text = " ".join(str(told).split())[:_REASON_LENGTH] or type(told).__name__
    if "scripts are no longer supported" in text:
        return f"{text}; vitx runs no code of a dataset: give a copy of it as parquet"
    if remote:
        return f"{text.rstrip('.')}; log in where it is private, or set dataset.path=<local copy>"
    return text


@contextlib.contextmanager
def _silent(*, bars: bool = False) -> Iterator[None]:
    import datasets
    import huggingface_hub.utils as hub

    modules = () if bars else (datasets, hub)
    shown = [each for each in modules if not each.are_progress_bars_disabled()]
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub", "filelock")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in shown:
            module.disable_progress_bars()
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            for module in shown:
                module.enable_progress_bars()
