"""Claims and their memory table made again."""

from __future__ import annotations

from dataclasses import asdict

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
    law = check.of if check and row["derived"] is not None else None
    symbols = {k: facts.number(p) for k, p in inputs.items()} | plain | dict(check.given if check else {})

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        if check is None:
            return {}
        value, low, high, _, _ = study.derive(known, check)
        return {(k,): v for k, v in (("derived", value), ("low", low), ("high", high)) if v is not None}

    def terms(name: ResultPath, notes: Notes) -> None:
        if name[0] == "published_value":
            paths = [e.published for e in entries(facts) if e.id == row["id"]]
            notes.add("published", row["published_value"], "1", facts=tuple(paths), note=row["published"])
            return
        if name[0] in ("per_chip", "per_unit") and check is not None:
            scale = study.scales(check, facts)[name[0] == "per_unit"]
            own = {"published": row["published_value"]}.get(str(name[1]), row.get(str(name[1])))
            notes.add(
                name[0].replace("_", " "),
                row[name[0]][name[1]],
                "1",
                study.for_another,
                given={"value": own, "scale": scale},
                facts=check.counts,
            )
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

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        """The bound alone: what moves a planned figure is explained from the answer of the comparison itself."""
        return {
            (k,): float(v) for k, v in asdict(memory_claim.memory_bounds(known, row["model"])[row["system"]]).items()
        }

    chip = facts.meta("systems", row["system"])["chip"]
    from mowich.models import load_model

    model = load_model(row["model"])
    first = next(r for r in result["memory"] if r["model"] == row["model"])
    symbols = {
        "weights": model.params * memory_claim.CLAIM_WEIGHT_B,
        "kv": model.kv_bytes(row["context"], memory_claim.CLAIM_WEIGHT_B),
        "bandwidth": facts.number(f"chips.{chip}.memory.hbm_bandwidth"),
        "unit_chips": memory_claim.unit_chips(facts, row["system"]),
        "first_tokens_per_s": first["tokens_per_s"],
        "first_planned_tokens_per_s": first["planned_tokens_per_s"]["value"],
    }
    behind = {"bandwidth": (f"chips.{chip}.memory.hbm_bandwidth",), "memory_B": (f"chips.{chip}.memory.hbm_usable",)}
    return Source(
        at=at,
        numbers=numbers,
        symbols=symbols,
        behind=behind,
        title=f"{row['model']}, {row['context']} tokens, {row['system']}",
    )
