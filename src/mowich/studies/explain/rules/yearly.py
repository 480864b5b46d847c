"""Rules of the yearly totals of a row of a comparison."""

from __future__ import annotations

from mowich.studies.explain.rules.rule import R, Rule

_SAVING = (
    "inside: the cost of a token on the first row less that on this one, times {tokens}; each cause of the range moved"
    " once, on both rows (mowich help own-fleet)"
)
_PORTING = ("prices.porting.people", "prices.porting.months", "prices.porting.usd_per_person_month")


def yearly_rules(speed: str) -> list[Rule]:
    """The rules of `yearly` of a row. speed: the formula of its tokens per second."""
    return [
        R("yearly tokens", "tokens", "tokens of the time that was asked, all chips at work", f"= {speed} * period_s"),
        R("yearly cost_usd", "USD", "cost of the row in the time", "= usd_per_mtok * tokens / 1e6"),
        R("yearly revenue_usd", "USD", "what the tokens are sold for", "= tokens * sells.value / 1e6"),
        R("yearly margin_usd", "USD", "revenue less cost", "= revenue_usd - cost_usd"),
        R("yearly energy_J", "J", "energy at the meter in the time", "= J_per_token * tokens"),
        R(
            "yearly provisioned_W",
            "W",
            "power that a site provides for all chips of the row",
            "inside: total_W of a chip, as mowich power gives it, times the chips",
            "chips.{chip}.power.all_in",
            "sites.default.pue",
        ),
        R(
            "yearly within_years",
            "year",
            "years within which a port has to pay",
            "lookup: as asked, else the fact",
            "prices.porting.within",
        ),
        R(
            "yearly residual_usd",
            "USD",
            "what machines that are bought now are worth after those years",
            "inside: capital of a chip (mowich prices) times the share that is left, times the chips",
            "prices.depreciation.fall_per_year",
            "prices.depreciation.next_generation.fall",
        ),
        R(
            "yearly saving_usd",
            "USD",
            "what this row saves beside the first one",
            _SAVING.format(tokens="the tokens that both make in the time"),
        ),
        R(
            "yearly saving_usd_per_GW",
            "USD/GW",
            "the same for a gigawatt of provisioned power",
            _SAVING.format(tokens="the tokens that a gigawatt of either makes in the time, the fewer of both"),
        ),
        R(
            "yearly saving_usd_per_chip_year",
            "USD",
            "what a chip of this row saves in a year",
            _SAVING.format(tokens="the tokens that a chip of this row makes in a year"),
        ),
        R(
            "yearly porting_usd",
            "USD",
            "cost of a port to the software of this row's maker, paid once",
            "inside: people x time x cost of one of them",
            *_PORTING,
        ),
        R(
            "yearly pays_from_chips",
            "chips",
            "chips from which the port is earned back within those years",
            "inside: porting_usd / (saving_usd_per_chip_year x within_years), where something is saved",
            *_PORTING,
        ),
    ]
