"""A few seconds of what ``python -m tests.receiver.fuzzing -max_total_time=600`` does for longer."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(find_spec("atheris") is None, reason="pip install atheris, to fuzz the decoder guided by coverage")
def test_what_nobody_thought_of_is_taken_or_refused_for_a_reason(tmp_path: Path) -> None:
    limits = ["-max_total_time=4", "-timeout=60", f"-artifact_prefix={tmp_path}/"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}

    done = subprocess.run(
        [sys.executable, "-m", "tests.receiver.fuzzing", *limits],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-5000:]
    assert "Done " in done.stderr
    assert list(tmp_path.iterdir()) == []
