"""Words of a training row -> what they mean: precision, task, weight sharding, recompute, yes and no.

Each column has a closed list of words, with free text allowed around them: "fp8 (delayed)", "ZeRO-1 within 8". Any
other word is refused; a default in its place would describe another run.
"""

from __future__ import annotations

import re
from typing import Literal

from mowich.evidence.row_checks import has_word, refusal
from mowich.machines.system import System
from mowich.plans.search import divisors
from mowich.software.recipes import Recipe

_NEAREST = {"mxfp8": ("fp8",), "fp8": ("mxfp8",), "int8": ("fp8", "mxfp8"), "nvfp4": ("mxfp4",), "mxfp4": ("nvfp4",)}
"""Recipes of the same width, nearest first."""


_PRECISION_WORDS = ("bf16", "fp16", "16-bit", "fp32", "amp", "fp8", "fp8-mx", "mxfp8", "nvfp4", "mxfp4", "fp4", "int8")
"""Words for the recipe of matrix products; the text around them ("fp8 (delayed)", "Autocast:BF16+SR") is free."""


def precision_of(text: str, system: System) -> tuple[str, str]:
    """(recipe of the plan, how it was read; "" when stated). 16-bit words of any kind are "bf16"; "fp8 or nvfp4" is the
    narrower one that the chip has. A recipe without a rate on the chip is read as the nearest with one. Raises
    RefusedError for other words."""
    word = text.casefold()
    how = ""
    if not word:
        return "bf16", "not stated: 16 bit"
    if has_word(word, "nvfp4"):
        name = "nvfp4"
        if "or" in word.split():
            name = "nvfp4" if "nvfp4" in system.peak_flops else "fp8"
            how = "the narrowest recipe of the chip among those named"
    elif has_word(word, "mxfp8", "fp8[-_]mx"):
        name = "mxfp8"
    elif has_word(word, "mxfp4"):
        name = "mxfp4"
    elif has_word(word, "fp4"):
        name = "nvfp4" if "nvfp4" in system.peak_flops else "mxfp4"
        how = "which 4-bit recipe is not stated: the one of the chip"
    elif has_word(word, "fp8(?:e4m3|e5m2)?", "float8", "e4m3", "e5m2") and not word.startswith("int8"):
        name = "fp8"
        how = "recipe not resolved by the source" if "or lower" in word else ""
    elif has_word(word, "int8"):
        name = "int8"
    elif has_word(
        word, "bf16", "bfloat16", "fp16", "float16", "half", "16[- ]?bits?", "fp32", "float32", "amp", "mixed"
    ):
        name = "bf16"
        if word.strip() in ("fp32", "float32"):
            how = "the compiler casts matrix products to 16 bit"
    else:
        raise refusal("precision", text, _PRECISION_WORDS)
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


TASK_WORDS = ("pretrain", "sft", "lora")
"""Words for what trains: every weight (new or continued), every weight on packed examples, or adapters."""


_Task = Literal["pretrain", "sft", "lora"]


def task_of(text: str) -> _Task | None:
    """pretrain, sft or lora as the row's words mean; None when they say nothing. Raises RefusedError for other
    words."""
    if not text:
        return None
    if has_word(text, "lora", "peft"):
        return "lora"
    if has_word(text, "sft", "fine[- ]?tun(?:e|ing)"):
        return "sft"
    if has_word(text, "(?:pre-?|mid-?)?train(?:ing)?"):
        return "pretrain"
    raise refusal("task", text, TASK_WORDS)


ZERO_WORDS = (
    "ZeRO-0",
    "ZeRO-1",
    "ZeRO-2",
    "ZeRO-3",
    "DDP",
    "distributed optimizer",
    "FSDP",
    "HSDP",
    "FULL_SHARD",
    "SHARD_GRAD_OP",
)
"""Words for what the data ranks shard: weights, gradients, optimizer."""


def zero_of(text: str) -> int | None:
    """ZeRO level that the row's words mean, None when they say nothing. Raises RefusedError for other words."""
    word = text.casefold().strip()
    if not word:
        return None
    level = re.search(r"\b(?:zero|stage)(?:[-_ ]?stage)?[-_ ]?([0-3])\b", word) or re.fullmatch(
        r"([0-3])(?:\.0)?", word
    )
    if (level and level[1] == "0") or "pure dp" in word or "no_shard" in word:
        return 0
    if (level and level[1] == "1") or "distributed optimizer" in word or "optimizer offload" in word:
        return 1
    if (level and level[1] == "2") or "grad_op" in word or "no reshard" in word:
        return 2
    if level or re.search(r"fsdp|hsdp|full_shard|hybrid_shard|fully[-_ ]shard", word):
        return 3
    if has_word(word, "ddp", "none", "no", "off", "replicated"):
        return 0
    if re.search(r"\w=-?\d", word):
        return None  # axes of a mesh that shard no weights: the software's default is filled in
    raise refusal("fsdp_zero", text, ZERO_WORDS)


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


RECOMPUTE_WORDS = ("none", "selective", "experts", "full", "minimal", "custom", "offload")
"""Words for what is computed again in the backward pass; policies of MaxText and modules of Megatron are read too."""


def recompute_of(text: str) -> str | None:
    """none, selective, experts or full as the row's words mean, None when they say nothing. Policies that keep matrix
    products (MaxText "minimal", "save_dot...") are selective, and so are lists of Megatron's modules unless "moe" is
    among them; "custom" ones, which keep or offload a few tensors and run the rest again, are full, the nearest of the
    three; offloading instead of recomputing is none. Raises RefusedError for other words."""
    word = text.casefold().strip()
    if not word:
        return None
    if "offload" in word:
        return "full" if "qkv_proj" in word else "none"
    if word in ("none", "no", "off", "false", "0"):
        return "none"
    if re.search(r"\bexperts?\b|\bmoe\b", word):
        return "experts"
    if re.search(r"selective|minimal|save_|core_attn|layernorm|moe_act|up_proj|shared_experts|^mlp$", word):
        return "selective"
    if re.search(r"checkpoint|remat|recompute", word) or has_word(
        word, "full", "yes", "true", "on", "1", "all", "block", "uniform", "custom"
    ):
        return "full"
    raise refusal("recompute", text, RECOMPUTE_WORDS)


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
