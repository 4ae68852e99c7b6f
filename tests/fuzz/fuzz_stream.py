"""Fuzzing of the container and its headers, guided by coverage (atheris: pip install atheris).

    python tests/fuzz/fuzz_stream.py -max_total_time=3600 -rss_limit_mb=1024 -timeout=10 WORK tests/fuzz/corpus

WORK is a folder for the inputs that reached something new; all options are libFuzzer's. What breaks a rule is left
as a file crash-*, timeout-* or oom-*: mend the fault and add the file to the corpus, which every test run reads.
"""

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["vcodec"]):
    from stream_target import check_stream

if __name__ == "__main__":
    atheris.Setup(sys.argv, check_stream)
    atheris.Fuzz()
