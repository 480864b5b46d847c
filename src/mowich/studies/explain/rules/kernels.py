"""Rules of kernels: profile, run, check, difference, and layers made of them."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.studies.explain.rules.rule import R, Rule, under

E_LINES = [
    R(
        "busy_s",
        "s",
        "time in which the engine worked, mean over cores",
        "simulation: union of its instructions in the schedule",
    ),
    R(
        "wait_s",
        "s",
        "time in which it had instructions and none was ready",
        "simulation: gaps before its instructions",
    ),
    R("idle_s", "s", "time after its last instruction", "= time_s - busy_s - wait_s"),
    R("instructions", "1", "instructions that ran on it", "count: counted"),
    R(
        "waits_s *",
        "s",
        "waiting of the engine, by whom it waited for",
        "simulation: gaps before instructions, by what released them",
    ),
]

P_LINES = [
    R("time_s", "s", "latency of the part as a launch of its own", "simulation: of one rank, all ranks alike"),
    R("time_s breakdown *", "s", "part of the critical path, by the fact that sets it", "simulation: of the launch"),
    R("engines_s *", "s", "time in which the engine worked, mean over cores", "simulation: as of any kernel"),
    R("hbm_B", "B", "bytes that one rank reads and writes in HBM", "count: over its DMA instructions"),
]

KERNEL_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/kernel@1": (
        R("time_s", "s", "latency of the kernel", "= sum(parts)"),
        R("time_s breakdown *", "s", "part of the critical path, by the fact that sets it", "terms: the term below"),
        R(
            "risks * low",
            "1",
            "least of measured over predicted time with this risk",
            "lookup: model.residual_* of the risk",
        ),
        R(
            "risks * high",
            "1",
            "most of measured over predicted time with this risk",
            "lookup: model.residual_* of the risk",
        ),
        R("cores", "cores", "cores that were scheduled together", "count: counted"),
        R("instructions", "1", "instructions of the kernel", "count: counted"),
        *under("engines *", E_LINES),
        R("mfu", "1", "useful FLOP over the bf16 peak", "= flop / (peak * time_s)"),
        R(
            "hfu",
            "1",
            "all FLOP of the Tensor Engine over the bf16 peak",
            "inside: useful FLOP and transposes and broadcasts / (peak x time)",
        ),
        R(
            "mbu",
            "1",
            "bytes of HBM over the bandwidth of one stack",
            "= (hbm_read_B + hbm_write_B) / (hbm_Bps * time_s)",
        ),
        R("flop", "FLOP", "useful operations of the Tensor Engine", "inside: 2 for each multiply-add, counted"),
        R("hbm_read_B", "B", "bytes read from HBM", "count: counted"),
        R("hbm_write_B", "B", "bytes written to HBM", "count: counted"),
        R("spill_B", "B", "bytes stored and reloaded as tiles exceed SBUF", "count: counted"),
        R("roofline flop_per_B", "FLOP/B", "work per byte of HBM", "= flop / max(1, hbm_read_B + hbm_write_B)"),
        R("roofline ridge_flop_per_B", "FLOP/B", "work per byte from which on the array can bind", "= peak / dma_Bps"),
        R(
            "sbuf_peak_B",
            "B",
            "most bytes of a partition of SBUF at one time",
            "simulation: live tiles over the schedule",
        ),
        R("psum_peak_banks", "banks", "most banks of PSUM at one time", "simulation: live tiles over the schedule"),
        R("dma * descriptor_low_B", "B", "smallest descriptor of the class", "lookup: a definition"),
        R("dma * descriptor_high_B", "B", "descriptors of the class are shorter than this", "lookup: a definition"),
        R("dma * bytes", "B", "bytes moved by such descriptors", "count: counted"),
        R("dma * descriptors", "1", "descriptors", "count: counted"),
        R(
            "dma * efficiency",
            "1",
            "share of the DMA engines' rate that they reach",
            "simulation: bytes / (rate x time of their transfers)",
        ),
        R("top * line", "1", "line of the kernel", "lookup: where the instruction was written"),
        R(
            "top * seconds",
            "s",
            "part of the critical path that the line takes",
            "simulation: sum of its steps on the critical path",
        ),
        R(
            "over_time **",
            "1",
            "a second, or a level, of a curve over time",
            "simulation: read off the schedule, thinned to what a screen shows",
        ),
    ),
    "mowich/kernel-run@1": (
        R("generation", "1", "generation of the NeuronCore", "lookup: of the target: 2, 3 or 4"),
        R("cores", "cores", "cores that ran", "lookup: the launch grid, or --lnc"),
        R("instructions", "1", "instructions that were executed and checked", "count: counted"),
        R("outputs * output", "1", "place of the output", "lookup: counted from 0"),
        R("outputs * shape *", "1", "length of an axis", "lookup: as the kernel made it"),
        R("outputs * *", "1", "a figure of the values that the kernel made", "table: over all elements of the output"),
        R("*", "1", "a figure of the run", "count: counted"),
        R("**", "1", "a figure of the run", "count: counted"),
    ),
    "mowich/kernel-check@1": (
        R("functions", "1", "functions that were read", "count: kernels and what they reach in files at hand, counted"),
        R("rules", "1", "rules of the check", "count: the table of mowich help kernel-check, counted"),
        R("found *", "1", "findings of the stage", "count: counted"),
        R("run instructions", "1", "instructions of the kernel that ran", "count: counted on all cores"),
        R(
            "run orders",
            "1",
            "orders of the cores in which the kernel ran",
            "count: 1, and two more where the cores meet",
        ),
        R("findings * line", "1", "line of the file", "lookup: where the mistake stands, from 1"),
    ),
    "mowich/kernel-layer@1": (
        R("step_s", "s", "time of the step on the device", "simulation: the layers of each kind, then what follows"),
        R("law_share", "1", "share of the step by the planner's law", "inside: parts without a kernel over the step"),
        R("kinds * count", "layers", "layers of this shape", "lookup: of the model"),
        R("kinds * layer_s", "s", "one layer", "simulation: as one launch, where there is none the sum of its parts"),
        R(
            "kinds * layer_s breakdown *",
            "s",
            "part of the critical path, by the fact that sets it",
            "simulation: of it",
        ),
        R("kinds * all_s breakdown *", "s", "part of the critical path, by the fact that sets it", "simulation: of it"),
        R("kinds * parts_s", "s", "the parts one after the other", "simulation: their sum"),
        R("kinds * all_s", "s", "all layers of this shape", "simulation: as one launch, else so many times one layer"),
        *under("kinds * parts *", P_LINES),
        *under("kinds * one_launch", P_LINES),
        *under("after *", P_LINES),
    ),
    "mowich/kernel-diff@1": (
        R(
            "order ratio",
            "1",
            "time of the second version over that of the first",
            "simulation: of both, with a range of its own",
        ),
        R(
            "order p_a_slower",
            "1",
            "probability that the first version is slower",
            "inside: share of the ratio's distribution below 1",
        ),
        R(
            "order p_tie",
            "1",
            "probability that the times differ by less than `tie_within`",
            "inside: share of the ratio's distribution",
        ),
        R("order tie_within", "1", "difference below which two times are a tie", "lookup: a definition"),
        *(
            rule
            for side, word in (("a", "first"), ("b", "second"))
            for rule in (
                R(
                    f"lines * {side}_path",
                    "ns",
                    f"part of the critical path of the {word} version that the line takes",
                    "simulation: sum of its steps on the critical path",
                ),
                R(f"lines * {side}_count", "1", f"instructions of the line in the {word} version", "count: counted"),
            )
        ),
        *(
            rule
            for name, what in (
                ("summary", "figure"),
                ("engines", "time of the engine"),
                ("causes", "part of the critical path"),
                ("opcodes", "opcode"),
                ("lines", "line"),
            )
            for rule in (
                R(f"{name} * a", "1", f"the {what} of the first version", "lookup: of its profile"),
                R(f"{name} * b", "1", f"the {what} of the second version", "lookup: of its profile"),
                R(f"{name} * ratio", "1", "second over first", "= b / a"),
            )
        ),
    ),
}
