from tests.train.fixtures import vitx

__all__ = ["vitx"]
