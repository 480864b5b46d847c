"""The models that ship captured from code: src/mowich/facts/models/diffusion/NAME.json, from the classes and configs of
diffusion.yaml beside that folder.

    python tools/capture_models.py PYTHON [NAME ...]

PYTHON is the interpreter of an environment with torch and diffusers (requirements-capture.txt). Nothing is fetched: a
model is built on the meta device, without weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mowich.models.builtin import captured_names, config_of

SOURCE = Path(__file__).resolve().parents[1] / "src"
MODELS = SOURCE / "mowich" / "facts" / "models"


def capture(python: str, name: str) -> None:
    """Write the file of one model. Raises CalledProcessError where the exporter refuses it."""
    entry = config_of(name)
    out = MODELS / str(entry["captured"])
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps({"_class_name": entry["class"], **dict(entry["config"])}), encoding="utf-8")  # type: ignore[call-overload]
        command = [python, "-m", "mowich.capture", f"diffusers:{entry['class']}", "--config", str(config)]
        env = {**os.environ, "PYTHONPATH": str(SOURCE)}
        subprocess.run([*command, "--name", name, "--out", str(out)], env=env, check=True)


def main(python: str, *names: str) -> None:
    for name in names or captured_names():
        capture(python, name)
        print(f"{name}: {(MODELS / str(config_of(name)['captured'])).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
