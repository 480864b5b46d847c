"""Every text decoder of the installed transformers is read by its structure, readable as another, or refused with a
reason: `python tests/slow/check_decoders.py`.

Needs transformers (requirements-slow.txt), no torch: it asks for names and default configs alone. A name that is
listed as like another must read as that one, and a name that is read must read; a name that nothing lists is a fault.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))


def default_config(model_type: str) -> dict[str, Any] | None:
    """The config that transformers makes of no arguments; None where it makes none."""
    from transformers import CONFIG_MAPPING

    try:
        return dict(CONFIG_MAPPING[model_type]().to_dict())
    except Exception as error:
        print(f"{model_type}: no default config ({str(error).splitlines()[0][:80]})")
        return None


def main() -> int:
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except ImportError:
        print("transformers is not installed: nothing checked")
        return 0
    from mowich.errors import UserError
    from mowich.models.architectures import ARCHITECTURES, REFUSED, WRAPPERS
    from mowich.models.config import model_from_config
    from mowich.models.likeness import others

    faults, counts = [], {"read": 0, "like another": 0, "refused": 0}
    for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        listed = others().get(name)
        if name in REFUSED or (listed is not None and listed.why):
            counts["refused"] += 1
            continue
        if listed is None and (name in ARCHITECTURES or name in WRAPPERS):
            counts["read"] += 1
            continue
        config = default_config(name)
        if config is None:
            faults.append(f"{name}: transformers makes no default config")
            continue
        try:
            model_from_config(config, name=name, where=name, read_as=listed.like if listed else "")
        except UserError as error:
            faults.append(f"{name}: {error.line()}" if listed else f"{name}: not listed, and {error.line()}")
            continue
        counts["like another" if listed else "read"] += 1
    gone = sorted(set(others()) - set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    faults += [f"{name}: listed, but no decoder of this transformers" for name in gone]
    print(
        ", ".join(f"{count} {what}" for what, count in counts.items()), f"of {len(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)}"
    )
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
