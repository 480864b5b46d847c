"""Rules of a model's figures."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.models.model import FROM_CODE
from mowich.studies.explain.rules.rule import R, Rule

MODEL_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/model@1": (
        R(
            "encoders * params",
            "1",
            "parameters of this encoder, not counted in params",
            "count: counted from its config",
        ),
        *(
            R(
                f"encoders * {k}",
                "1",
                f"{k} of this encoder",
                "lookup: read from its section of the model's config.json",
            )
            for k in ("num_layers", "hidden")
        ),
        *(
            R(
                f"encoders * {k}",
                unit,
                f"{says} of the picture or the sound that is named beside it",
                "inside: by the family's rule of how a picture is resized and cut (models/encoder.py)",
            )
            for k, unit, says in (
                ("positions", "tokens", "positions that the encoder's layers compute"),
                ("tokens", "tokens", "tokens that come out"),
                ("prompt_tokens", "tokens", "tokens of a prompt"),
            )
        ),
        R(
            "encoders * flop",
            "FLOP",
            "forward work of that picture or sound",
            "inside: 2 x positions x weights, and scores and values of attention in both directions",
        ),
        R(
            "encoders * embedding_elements",
            "1",
            "elements of the embedding of a token, with those for deeper layers of the text model",
            "count: counted from its config",
        ),
        *(
            R(f"captured {of} products * {k}", "1", f"{says} of this weight", "lookup: read from the captured file")
            for of in ("layers *", "outside")
            for k, says in (("n", "columns"), ("k", "rows"))
        ),
        R(
            "captured outside flop_per_token_forward",
            "FLOP",
            "work of what runs once a pass, the head left out, for each token",
            "inside: 2 n k rows / seq of its products, and its attention",
        ),
        R(
            "captured **",
            "1",
            "counted in the model's code: a + b batch + c tokens + d batch tokens where it is a size",
            "lookup: read from the captured file",
        ),
        R("seq", "tokens", "length that FLOP and bytes are given for", "lookup: as asked: --seq, else 4096"),
        *(
            R(k, "1", f"{k} of the configuration", "lookup: read from the model's config.json or captured file")
            for k in ("num_layers", "hidden", "vocab", "max_seq", "mtp_layers")
        ),
        R(
            "params",
            "1",
            "parameters of the text model, tied weights once",
            "= sum(layers.count * layers.params) + params_embedding + params_head + params_other",
        ),
        R(
            "params_active",
            "1",
            "parameters that one token uses",
            "= sum(layers.count * layers.params_active) + params_embedding + params_head + params_other",
        ),
        R(
            "params_embedding",
            "1",
            "parameters of the token table (and of positions and types, where learned)",
            "inside: vocabulary x hidden, and the other tables",
        ),
        R(
            "params_head",
            "1",
            "parameters of the output head; 0 where tied",
            "inside: vocabulary x hidden, where it is not the token table",
        ),
        R(
            "params_other",
            "1",
            "final norm and what else stands outside of layers",
            "count: counted from the configuration",
        ),
        R(
            "mtp_params",
            "1",
            "parameters of multi-token-prediction layers, not counted in params",
            "count: counted from the configuration",
        ),
        R(
            "flop_per_token_forward",
            "FLOP",
            "work of a token forward, at seq",
            "= sum(layers.count * layers.flop_per_token_forward) + head_flop_per_token_forward"
            " + captured.outside.flop_per_token_forward",
            when=("architecture", FROM_CODE),
        ),
        R(
            "flop_per_token_forward",
            "FLOP",
            "work of a token forward, at seq",
            "= sum(layers.count * layers.flop_per_token_forward) + head_flop_per_token_forward",
        ),
        R("flop_per_token_train", "FLOP", "work of a token in training", "= 3 * flop_per_token_forward"),
        R(
            "attention_flop_per_token_forward",
            "FLOP",
            "of that: scores and values, causal, mean over positions",
            "= sum(layers.count * layers.attention_flop_per_token_forward)",
        ),
        R("head_flop_per_token_forward", "FLOP", "of that: the output head", "= 2 * hidden * vocab"),
        R(
            "kv_bytes_per_token",
            "B",
            "cache that a token adds, all layers",
            "= sum(layers.count * layers.kv_bytes_per_token)",
        ),
        R(
            "kv_bytes_at_seq",
            "B",
            "cache of a sequence of seq tokens; windows keep less",
            "= sum(layers.count * layers.kv_bytes_at_seq)",
        ),
        R(
            "state_bytes_per_sequence",
            "B",
            "recurrent state of a sequence",
            "= sum(layers.count * layers.state_bytes_per_sequence)",
        ),
        R("bytes_per_element", "B", "bytes of a cached element", "lookup: as asked: --kv-bytes"),
        R(
            "weight_bytes *",
            "B",
            "bytes of the published checkpoint, by part",
            "inside: parameters of the part x bytes of its stored format",
        ),
        R("layers * count", "layers", "layers of this kind", "lookup: read from the configuration"),
        R("layers * params", "1", "parameters of one layer", "inside: mixer + feed-forward + norms"),
        R(
            "layers * params_active",
            "1",
            "of these, what one token uses",
            "inside: mixer + shared and chosen experts + norms",
        ),
        R(
            "layers * params_mixer",
            "1",
            "parameters of attention or recurrence",
            "inside: its projections, from heads and widths",
        ),
        R(
            "layers * params_ffn",
            "1",
            "parameters of the feed-forward block",
            "inside: matrices x hidden x width, all experts and the router",
        ),
        R(
            "layers * flop_per_token_forward",
            "FLOP",
            "work of a token in one layer",
            "inside: mixer + scores and values + feed-forward + rest",
        ),
        R("layers * mixer_flop_per_token_forward", "FLOP", "projections", "inside: 2 x parameters of its matrices"),
        R(
            "layers * attention_flop_per_token_forward",
            "FLOP",
            "scores and values, or the recurrence",
            "inside: 2 heads (head size + value size) x mean tokens attended",
        ),
        R(
            "layers * ffn_flop_per_token_forward",
            "FLOP",
            "feed-forward",
            "inside: 2 x parameters of the matrices that a token uses",
        ),
        R(
            "layers * kv_bytes_per_token",
            "B",
            "cache that a token adds in one layer",
            "inside: cached elements x bytes_per_element",
        ),
        R(
            "layers * kv_bytes_at_seq",
            "B",
            "cache of a sequence in one layer",
            "inside: elements kept at seq x bytes_per_element",
        ),
        R(
            "layers * state_bytes_per_sequence",
            "B",
            "recurrent state in one layer",
            "inside: elements of the state x 4 + of the convolution x 2",
        ),
        R("layers * window", "tokens", "tokens that the layer sees at most", "lookup: read from the configuration"),
    ),
}
