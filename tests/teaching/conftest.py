from tests.teaching.hired import own_cache, words

__all__ = ["own_cache", "words"]
