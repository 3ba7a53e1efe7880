"""Benchmarks: our code beside a rival or beside the least that it could cost; see README.md."""
