"""Run benchmarks and print one table in Markdown: python -m benchmarks [NAME ...] [--gpu] [--threads N].

Without names all of them run: some eight minutes of processor.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from importlib import import_module

NAMES = ("training", "sampling", "reconstruction", "indicators", "reading")
#: those that compute on a GPU
ON_GPU = ("training", "sampling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}")
    parser.add_argument("--gpu", action="store_true", help=f"on CUDA: {', '.join(ON_GPU)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch and BLAS; default: all cores")
    chosen = parser.parse_args()
    known = ON_GPU if chosen.gpu else NAMES
    if unknown := sorted(set(chosen.names) - set(known)):
        parser.error(f"unknown benchmarks {unknown}; expected any of {list(known)}.")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(chosen.threads)  # read when the libraries are loaded

    from benchmarks.measure import Row, describe_machine, table

    logging.disable(logging.WARNING)  # networks are hardly trained here, and say so
    device = "cuda" if chosen.gpu else "cpu"
    rows: list[Row] = []
    started = time.perf_counter()
    for name in chosen.names or known:
        print(f"{time.perf_counter() - started:5.0f} s  {name}", file=sys.stderr, flush=True)
        rows += import_module(f"benchmarks.{name}").rows(device)
    print(f"{describe_machine(device)}; {time.strftime('%Y-%m-%d')}; {time.perf_counter() - started:.0f} s in all\n")
    print(table(rows))


if __name__ == "__main__":
    main()
