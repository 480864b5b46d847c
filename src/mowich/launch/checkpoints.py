"""Names of checkpoints in the hub of Hugging Face: what a command loads for a model and a format of its weights."""

from __future__ import annotations

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram

QUANTIZES = ("vLLM", "SGLang")
"""Programs that make FP8 of BF16 weights when they load them: they need no checkpoint in FP8."""


def checkpoint_of(program: LaunchProgram, model: str, weights: str, facts: Facts) -> str:
    """The name of a checkpoint that a program loads for a model in a format, "" where no fact names one.

    >>> from mowich.facts import load_facts
    >>> from mowich.launch.vllm import VLLM_SERVE
    >>> checkpoint_of(VLLM_SERVE, "gpt-oss-120b", "mxfp4", load_facts())
    'openai/gpt-oss-120b'
    """
    formats = ("bf16", "fp8") if weights == "fp8" and program.title in QUANTIZES else (weights,)
    for form in formats:
        fact = facts.get(f"launch.checkpoints.{checkpoint_key(model)}.{form}")
        if fact is not None and fact.value is not None:
            return str(fact.value)
    return ""


def checkpoint_key(model: str) -> str:
    """A model as the facts name it: a path of facts is cut at its dots.

    >>> checkpoint_key("llama-3.1-70b")
    'llama-3_1-70b'
    """
    return model.replace(".", "_")
