"""Claims and their memory table made again."""

from __future__ import annotations

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.facts.entries import entries
from mowich.formula import formula_of
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath


def claim(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One public claim: its own formula over the facts that it names."""
    from mowich.studies import claim_checks
    from mowich.studies import claims as study

    check = next((c for start, c in claim_checks.checks().items() if row["id"].startswith(start)), None)
    inputs = {k: str(v).split(" = ")[0] for k, v in row["inputs"].items() if " = " in str(v)}
    plain = {k: float(v) for k, v in row["inputs"].items() if k not in inputs}
    is_row = row["group"] == "measured-ironwood-training"
    law = None if row["derived"] is None else study.tokens_per_chip if is_row else check.of if check else None
    symbols = {k: facts.number(p) for k, p in inputs.items()} | plain | dict(check.given if check else {})

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        if is_row:
            made = study.training_row(known, f"claims.{row['group']}.claims", row["id"].split(".", 1)[1])
            value, low, high = made.derived, made.low, made.high
        elif check is None:
            return {}
        else:
            value, low, high, _, _ = study.derive(known, check)
        return {(k,): v for k, v in (("derived", value), ("low", low), ("high", high)) if v is not None}

    def terms(name: ResultPath, notes: Notes) -> None:
        if name[0] == "published_value":
            paths = [e.published for e in entries(facts) if e.id == row["id"]]
            notes.add("published", row["published_value"], "1", facts=tuple(paths), note=row["published"])
            return
        if row["derived"] is None:  # not derived: the reason is told, and there is no term
            return
        notes.add(
            row["id"],
            row["derived"],
            "1",
            law,
            words=row["formula"],
            facts=tuple(inputs.values()),
            note=row["reason"],
            given=symbols,
        )

    return Source(
        at=at,
        numbers=numbers,
        terms=terms,
        symbols=symbols,
        behind={k: (p,) for k, p in inputs.items()},
        formulas={("derived",): formula_of(law)} if law is not None else {},
        title=row["claim"],
    )


def memory_row(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """A line of the table of what memory per chip costs."""
    from mowich.studies import memory_claim

    same = ("model", "context", "system")

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        made = next(r for r in memory_claim.memory_table(known) if all(getattr(r, k) == row[k] for k in same))
        return {(f,): float(v) for f in made.__slots__ if isinstance(v := getattr(made, f), int | float)}

    chip = facts.meta("systems", row["system"])["chip"]
    from mowich.models import load_model

    model = load_model(row["model"])
    symbols = {
        "weights": model.params * memory_claim.CLAIM_WEIGHT_B,
        "kv": model.kv_bytes(row["context"], memory_claim.CLAIM_WEIGHT_B),
        "bandwidth": facts.number(f"chips.{chip}.memory.hbm_bandwidth"),
        "unit_chips": memory_claim.unit_chips(facts, row["system"]),
        "first_tokens_per_s": next(
            r["tokens_per_s"] for r in result["memory"] if all(r[k] == row[k] for k in ("model", "context"))
        ),
    }
    behind = {"bandwidth": (f"chips.{chip}.memory.hbm_bandwidth",), "memory_B": (f"chips.{chip}.memory.hbm_usable",)}
    return Source(
        at=at,
        numbers=numbers,
        symbols=symbols,
        behind=behind,
        title=f"{row['model']}, {row['context']} tokens, {row['system']}",
    )
