"""Words of a measured row -> what they mean: precision, task, weight sharding, recompute, yes and no.

Each column has a closed list of words (`cells` in `words.yaml`), with free text allowed around them: "fp8 (delayed)",
"ZeRO-1 within 8". Any other word is refused; a default in its place would describe another run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mowich.evidence.row_checks import has_word, note_pattern, refusal, words_of_rows
from mowich.machines.system import System
from mowich.models.task import TASKS, Task
from mowich.plans.plan import one_of
from mowich.plans.search import divisors
from mowich.software.recipes import Recipe

_NEAREST = {"mxfp8": ("fp8",), "fp8": ("mxfp8",), "int8": ("fp8", "mxfp8"), "nvfp4": ("mxfp4",), "mxfp4": ("nvfp4",)}
"""Recipes of the same width, nearest first."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the words of a cell mean. means: our word; otherwise: that of a chip without a rate for it; how: how it was
    read, "" where the words state it."""

    means: str
    otherwise: str = ""
    how: str = ""


def meaning_of(name: str, text: str, words: str = "") -> Meaning | None:
    """What the words of a cell mean, by the part `name` of `cells` in `words.yaml`; None for a blank cell. words: what
    is read in the place of the text. Raises RefusedError for a text that no entry fits.

    >>> meaning_of("kv_precision", "fp8_e5m2"), meaning_of("kv_precision", "")
    (Meaning(means='fp8', otherwise='', how=''), None)
    """
    said = (words or text).casefold().strip()
    if not said:
        return None
    table = words_of_rows("cells")[name]
    for entry in table["reads"]:
        found = has_word(said, *entry["words"]) if "words" in entry else note_pattern(entry["parts"]).search(said)
        also, never = entry.get("and", ""), entry.get("but")
        if found and note_pattern(also).search(said) and not (never and note_pattern(never).search(said)):
            return Meaning(entry["means"], entry.get("otherwise", ""), entry.get("how", ""))
    raise refusal(table.get("column", name), text, table["allowed"])


def precision_of(text: str, system: System) -> tuple[str, str]:
    """(recipe of the plan, how it was read; "" when stated). 16-bit words of any kind are "bf16"; "fp8 or nvfp4" is the
    narrower one that the chip has. A recipe without a rate on the chip is read as the nearest with one. Raises
    RefusedError for other words."""
    found = meaning_of("precision", text)
    if found is None:
        return "bf16", "not stated: 16 bit"
    name, how = found.means, found.how
    if name not in system.peak_flops and found.otherwise:
        name = found.otherwise
    if name not in system.peak_flops:
        near = next((other for other in _NEAREST[name] if other in system.peak_flops), "bf16")
        how = f"no {name} rate is published for the chip" + (", it multiplies in 16 bit" if near == "bf16" else "")
        name = near
    return name, how


def is_autocast(text: str) -> bool:
    """Whether a precision is the automatic mixed one of a framework, which keeps its weights in fp32.

    >>> is_autocast("Autocast:BF16/AMP"), is_autocast("Autocast:BF16+SR"), is_autocast("bf16")
    (True, False, False)
    """
    return has_word(text, "amp", "mixed")


def attention_of_words(text: str, *, is_moe: bool) -> Recipe | None:
    """The format of attention in the words of a precision ("nvfp4 (+ fp8 attention settings)")."""
    if not re.search(r"fp8 attention", text, re.IGNORECASE):
        return None
    return Recipe("", {"attention": "fp8"}, "the precision", is_default=False, is_moe=is_moe)


def task_of(text: str) -> Task | None:
    """pretrain, sft or lora as the row's words mean: every weight (new or continued), every weight on packed examples,
    or adapters; None when they say nothing. Raises RefusedError for other words."""
    found = meaning_of("task", text)
    return None if found is None else one_of(found.means, TASKS, "task")


def zero_of(text: str) -> int | None:
    """ZeRO level that the row's words mean, None when they say nothing. Raises RefusedError for other words."""
    word = text.casefold().strip()
    level = re.search(r"\b(?:zero|stage)(?:[-_ ]?stage)?[-_ ]?([0-3])\b", word) or re.fullmatch(
        r"([0-3])(?:\.0)?", word
    )
    found = meaning_of("fsdp_zero", text, f"level {level[1] if level else '-'}: {word}") if word else None
    return int(found.means) if found is not None and found.means else None


def sharding_group(text: str, *, data: int, unit: int, server: int, experts: int = 1) -> int | None:
    """Data ranks of a sharding group in the row's words; None where they shard over all `data` ranks, or say nothing. A
    number of shards or of copies counts. Words alone mean the data ranks of a scale-up unit (or slice, or rack), and
    plain HSDP those of a server. experts: a second sharding axis of the mesh next to FSDP's.

    >>> sharding_group("ZeRO-1 within 8", data=32, unit=8, server=8)
    8
    >>> sharding_group("FSDP 16, data 8", data=128, unit=128, server=4)
    16
    >>> [sharding_group(words, data=512, unit=256, server=8) for words in ("FSDP 512", "FSDP 256 ICI x 2 DCN")]
    [None, None]
    """
    word = text.casefold()
    number = (
        re.search(r"\bwithin (\d+)\b", word)
        or re.search(r"\bfsdp2? (?:shard group )?(\d+)\b", word)
        or re.search(r"\b(?:ici_)?fsdp(?:_parallelism)?=(\d+)\b", word)
        or re.search(r"\b(\d+)-way fully[- ]shard", word)
    )
    copies = re.search(r"\b(?:ici_data_parallelism=|data[ =])(\d+)\b", word)
    if number:
        across = re.search(r"\bici x (\d+) dcn\b", word)  # the same axis, over slices too
        size = int(number[1]) * (int(across[1]) if across else 1) * (experts if re.search(r"\bep \d", word) else 1)
    elif copies:
        size = data // int(copies[1])
    elif re.search(r"fills the slice|in(?:side|tra)[- ](?:each )?(?:rack|slice|pod|node)", word):
        size = divisors(data, unit)[-1]  # as many of them as divide the data ranks
    elif has_word(word, "hsdp", "hybrid_shard"):
        size = server
    else:
        return None
    return size if 1 < size < data and data % size == 0 else None


def recompute_of(text: str) -> str | None:
    """none, selective, experts or full as the row's words mean, None when they say nothing. Policies of MaxText and
    modules of Megatron are read too. Raises RefusedError for other words."""
    found = meaning_of("recompute", text)
    return None if found is None else found.means


def allocated_B(notes: str) -> float | None:
    """The most bytes that a program's allocator held, from the notes; None where they state no memory. PyTorch programs
    print 2^30 bytes as "GB".

    >>> allocated_B("memory 8.40 GB; GBS derived") == 8.4 * 2**30, allocated_B("memory is tight")
    (True, None)
    """
    found = re.search(r"\bmemory (\d+(?:\.\d+)?) Gi?B\b", notes)
    return float(found[1]) * 2.0**30 if found else None


YES, NO = ("yes", "true", "1", "on"), ("no", "false", "0", "off")


def switch_of(column: str, text: str) -> bool | None:
    """The value of a yes-or-no column, None where it is blank. Raises RefusedError for other words."""
    word = text.casefold().strip()
    if not word:
        return None
    if word not in (*YES, *NO):
        raise refusal(column, text, (*YES, *NO))
    return word in YES
