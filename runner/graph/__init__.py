"""Graphs as data: read, override, describe, compare, draw, save and build them.

A graph is a `fiddle.Config` of a job (anything with `run(workdir)`). Nothing here
builds a model, touches a device or reads data.
"""
