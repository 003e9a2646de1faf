"""What is wrong with an environment, and what mends it: one small check for each thing.

Nothing here imports torch, timm or Hydra before a check needs it: each of them may be what is
broken.
"""
