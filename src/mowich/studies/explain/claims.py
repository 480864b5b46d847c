"""Claims and their memory table made again."""

from __future__ import annotations

from dataclasses import asdict

from mowich.estimate import Notes, told
from mowich.facts import Facts
from mowich.facts.claim_check import Check, check_of
from mowich.facts.entries import entries
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath


def claim(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One public claim: its own formula over the facts that it names."""
    from mowich.studies import claims as study

    entry = next((e for e in entries(facts) if e.id == row["id"]), None)
    check = Check() if entry is None else check_of(facts, entry.path, entry.file)
    paths = {k: str(v).split(" = ")[0] for k, v in row["inputs"].items() if " = " in str(v)}
    plain = {k: float(v) for k, v in row["inputs"].items() if k not in paths} | study.given_numbers(check)
    formula = check.formula if row["derived"] is not None else ""

    def law(**values: float) -> float:
        return check.derived(values)

    law.__doc__ = f"T = {formula}"

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        value, low, high, _, _ = study.derive(known, check)
        return {(k,): v for k, v in (("derived", value), ("low", low), ("high", high)) if v is not None}

    def symbols(known: Facts) -> dict[str, float]:
        return {k: known.number(p) for k, p in paths.items()} | plain

    def published(known: Facts) -> float | None:
        """What was claimed, as the result reads it."""
        fact = None if entry is None else known.fact(entry.published)
        return None if fact is None else study.claimed(check, fact)

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        if name[0] == "published_value":
            value = published(known)
            if value is not None and entry is not None:
                text = f" ({entry.published})" if known.fact(entry.published).unit == "text" else ""
                notes.add("published", value, "1", note=row["published"] + text)
        elif name[0] in ("per_chip", "per_unit"):
            made = {k[0]: v for k, v in numbers(known, ("derived",)).items()} | {"published": published(known)}
            scale = study.scales(check, known)[name[0] == "per_unit"]
            value = made.get(str(name[1]))
            if value is not None:
                told(notes, name[0].replace("_", " "), study.for_another, unit="1")(value=value, scale=scale)
        elif formula:
            told(notes, row["id"], law, unit="1", words=row["formula"], note=row["reason"])(**symbols(known))

    return Source(
        at=at,
        numbers=numbers,
        record=record,
        symbols=symbols,
        formulas={("derived",): formula} if formula else {},
        title=row["claim"],
    )


def memory_row(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """A line of the table of what memory per chip costs."""
    from mowich.studies import memory_claim

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        """The bound alone: what moves a planned figure is explained from the answer of the comparison itself."""
        return {
            (k,): float(v) for k, v in asdict(memory_claim.memory_bounds(known, row["model"])[row["system"]]).items()
        }

    from mowich.models import load_model

    chip, model = facts.meta("systems", row["system"])["chip"], load_model(row["model"])
    first = next(r for r in result["memory"] if r["model"] == row["model"])

    def symbols(known: Facts) -> dict[str, float]:
        return {
            "weights": model.params * memory_claim.CLAIM_WEIGHT_B,
            "kv": model.kv_bytes(row["context"], memory_claim.CLAIM_WEIGHT_B),
            "bandwidth": known.number(f"chips.{chip}.memory.hbm_bandwidth"),
            "memory_B": known.number(f"chips.{chip}.memory.hbm_usable"),
            "unit_chips": memory_claim.unit_chips(known, row["system"]),
            "first_tokens_per_s": first["tokens_per_s"],
            "first_planned_tokens_per_s": first["planned_tokens_per_s"]["value"],
        }

    title = f"{row['model']}, {row['context']} tokens, {row['system']}"
    return Source(at=at, numbers=numbers, symbols=symbols, title=title)
