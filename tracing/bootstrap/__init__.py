"""Holds nothing but `sitecustomize.py`: `backtrail run` puts this directory on `PYTHONPATH`."""
