"""Faults inflicted on real runs, and what has to come of them: nothing lost, the same bytes.

Processes are `vitx` itself, forked by `vitx.fork_server`; nothing here imports torch. A fault is a
function of a `Bench` that returns facts, raises `Broken` where a promise is not kept and `Lacking`
where the machine allows no answer.
"""
