"""Graphs as data: read, override, describe, compare, draw, save and build them.

A graph is a `fiddle.Config` of a `runner.graph.job.Job`. Nothing here
trains, touches a device or reads data.
"""

from runner.graph.without_libcst import import_fiddle

import_fiddle()
