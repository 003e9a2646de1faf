from tests.train.fixtures import everything, pictures, uninterrupted, vitx

__all__ = ["everything", "pictures", "uninterrupted", "vitx"]
