from tests.commands.distilling import own_runs, teacher, words
from tests.commands.hub import hub
from tests.train.fixtures import pictures, vitx

__all__ = ["hub", "own_runs", "pictures", "teacher", "vitx", "words"]
