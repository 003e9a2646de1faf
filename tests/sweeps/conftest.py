from tests.train.fixtures import pictures, vitx

__all__ = ["pictures", "vitx"]
