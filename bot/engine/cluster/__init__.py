"""Engines on the GPUs of a Ray cluster.

::

    the bot                    driver process            Ray actor on the node     child on the node
    RayEngine -- RayLink -- Hub ==frames== Remote ==Ray== NodeActor -- PipeLink ==frames== torch

The engine is the same `EngineProcess` as on one machine: it supervises the child, which only runs
farther away. Ray lives in a process of its own (`driver.py`), for two reasons: Ray ends the process
of a driver that has lost its cluster for a minute, and what Ray starts inherits its environment.
"""
