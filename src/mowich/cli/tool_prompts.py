"""Questions that people ask most, as prompts for an assistant that has the tools: what to call, and how to say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.errors import UserError, unknown

_HOW = (
    " Give every number with its 90% range and grade. Where two ranges overlap, say that no winner is shown. Explain"
    " the number that decides with the tool explain, and cite its facts by path, source and date."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPrompt:
    """A question with blanks. needs: names of the blanks that must be filled, and what each holds; text: with the
    blanks in braces."""

    name: str
    about: str
    needs: Mapping[str, str]
    text: str

    def filled(self, given: Mapping[str, str]) -> str:
        """The question. Raises UserError for a blank that is missing or unknown."""
        for key in given:
            if key not in self.needs:
                raise unknown("argument", key, self.needs, where=self.name)
        for key, about in self.needs.items():
            if not given.get(key, "").strip():
                raise UserError("is required", where=f"{self.name} {key}", fix=about)
        return self.text.format(**given) + _HOW


_PROMPTS: Sequence[ToolPrompt] = (
    ToolPrompt(
        name="which_system",
        about="Which system trains a model fastest or cheapest.",
        needs={"model": "for example llama-3.1-70b", "systems": "for example trn3,gb300", "chips": "for example 1024"},
        text="Compare {systems} for training {model} on {chips} chips each: call compare with train true, and state"
        " tokens, seq and batch (ask the user where they are not known).",
    ),
    ToolPrompt(
        name="size_a_load",
        about="How many chips a load of requests needs, and what it costs.",
        needs={
            "model": "for example gpt-oss-120b",
            "systems": "for example trn3,h200",
            "rate": "requests a second, for example 50",
        },
        text="How many chips of {systems} serve {model} at {rate} requests a second? Call plan with serve true, rate,"
        " isl, osl and the limits p99_ttft or p99_tpot (ask the user for lengths and limits).",
    ),
    ToolPrompt(
        name="does_it_fit",
        about="Whether a model fits a machine, and how few chips would do.",
        needs={"model": "for example deepseek-v3", "system": "for example trn2:64"},
        text="Does {model} fit on {system}? Call fit, for training and for serving, and say what binds.",
    ),
    ToolPrompt(
        name="why_faster",
        about="Why one machine beats another, as factors.",
        needs={"a": "for example gb300", "b": "for example trn3", "model": "for example llama-3.1-405b"},
        text="Why does {a} beat {b} on {model}, or {b} beat {a}? Call gap with both, and name the largest factors.",
    ),
)
TOOL_PROMPTS: Mapping[str, ToolPrompt] = {prompt.name: prompt for prompt in _PROMPTS}
"""By name."""
