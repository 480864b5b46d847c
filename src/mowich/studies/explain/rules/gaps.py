"""Rules of what two machines, or two sizes of a property, differ by."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.studies.explain.rules.rule import R, Rule

_ORDER = (
    "search: the job planned again with the property exchanged after each set of the other named ones that the orders"
    " come through"
)

GAP_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/gap@1": (
        R("systems * chips", "chips", "chips of the machine", "lookup: as named, --chips, or one unit"),
        R(
            "systems * tokens_per_s_per_chip",
            "1/s",
            "tokens per second and chip of its best plan",
            "search: the best plan of the machine, as `compare` finds it",
        ),
        R(
            "systems * usd_per_mtok",
            "USD/Mtok",
            "cost of a million tokens; of usd_total that of the whole run",
            "search: the best plan of the machine at its price, as `compare` finds it",
        ),
        R("systems * price", "USD/chip/s", "price of a chip", "lookup: as the facts state it for the terms asked for"),
        R(
            "ratio",
            "1",
            "how many times the first machine's answer the second one's is; of a cost, tokens for a dollar",
            "inside: what the second machine makes / what the first one makes",
        ),
        R("product", "1", "all factors together", "inside: product of the factors; it is the ratio"),
        R(
            "rows * factor",
            "1",
            "what a property is worth: above 1 it speaks for the second machine",
            "search: exp of the mean, over the orders of exchange, of what it adds to ln of what is made; price:"
            " first / second; the rest: what is left when all named ones are exchanged",
        ),
        R("rows * orders_low", "1", "the least that it is worth over the orders", _ORDER),
        R("rows * orders_high", "1", "the most that it is worth over the orders", _ORDER),
        R("rows * alone", "1", "what it is worth where it is exchanged first", _ORDER),
        R(
            "machines",
            "1",
            "machines that were planned on",
            "search: the two, and those between them that were asked for",
        ),
        R("orders", "1", "orders that were averaged", "search: all along which plans fit, or those that were drawn"),
        R(
            "price_parity",
            "1",
            "price of a chip-hour of the first machine over that of the second at which a token costs the same",
            "inside: what a chip of the first makes / what a chip of the second makes",
        ),
    ),
    "mowich/brief@1": (
        R(
            "rows * numbers * estimate",
            "1",
            "a number of the brief: what it is and the command that gives it stand below",
            "search: a figure of the answer that the command gives",
        ),
        R(
            "story tokens_per_s_per_chip",
            "1/s",
            "tokens per second and chip of Trainium 3 in training",
            "search: its best plan, as `compare` finds it",
        ),
        R(
            "story factors * factor",
            "1",
            "what a property is worth: above 1 it speaks for the other machine",
            "search: as `gap` finds it; the command stands in `story`",
        ),
        R("rows * numbers * symbols *", "1", "a figure that the number is made of", "search: of the same command"),
        R(
            "table * *",
            "1",
            "a ratio of the first table: Trainium 3 over the other machine",
            "inside: both figures are of the command that is told with it",
        ),
        R("rows * picture **", "1", "a number as the picture draws it", "inside: the numbers of the question, drawn"),
    ),
    "mowich/value@1": (
        R("today", "1", "amount of the property that the machine has", "lookup: as the facts state it"),
        R("price", "USD/chip/s", "price of a chip", "lookup: as the facts state it for the terms asked for"),
        R(
            "memory_price",
            "USD/B",
            "price of a byte of HBM to whoever makes the package",
            "lookup: as the facts state it",
            "prices.machines.bill.{system}.hbm_kind",
            "prices.memory.*",
        ),
        R(
            "life",
            "s",
            "how long a machine earns what it cost",
            "lookup: as the facts state it",
            "prices.ownership.asked.rule",
            "prices.ownership.rules.*",
        ),
        R(
            "rows * amount",
            "",
            "amount of the property; of software its place",
            "lookup: even steps from --from to --to",
        ),
        R(
            "rows * set *",
            "",
            "value of a fact of this line, as --set takes it",
            "lookup: today's times amount / today",
        ),
        R(
            "rows * tokens_per_s_per_chip",
            "1/s",
            "tokens per second and chip of the best plan with this amount",
            "search: the best plan of the machine, as `compare --set` finds it",
        ),
        R("rows * days", "d", "days of the whole run, with failures", "search: as `compare --set` finds it"),
        R("rows * usd_per_mtok", "USD/Mtok", "cost of a million tokens", "search: as `compare --set` finds it"),
        R(
            "rows * cached_frac",
            "1",
            "share of the prompt tokens that the cache has",
            "search: the curve of hits at the memory that the plan leaves",
        ),
        R("rows * gain", "1", "tokens over those of the machine as it is", "inside: this line's / today's"),
        R(
            "rows * more",
            "1/s",
            "tokens per second and chip that a unit adds",
            "inside: (this line's - today's) / units between",
        ),
        R("rows * days_less", "d", "days that a unit saves", "inside: (this line's - today's) / units between"),
        R(
            "rows * worth",
            "USD",
            "what a unit is worth over the life of the machine, per chip",
            "inside: price x life x share of the tokens that it adds to today's",
        ),
        R(
            "rows * pays_from",
            "USD/chip/h",
            "price of a chip-hour from which the memory pays",
            "inside: price of the memory / (life x share of the tokens that it adds)",
        ),
    ),
}
