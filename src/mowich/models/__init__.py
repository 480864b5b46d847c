"""Models: what is computed. `load_model` turns a built-in name, a `config.json` or a directory into a `Model`."""

from mowich.models.builtin import load_model, model_names
from mowich.models.model import Attention, Layer, Mlp, Model, Moe, Recurrent

__all__ = ["Attention", "Layer", "Mlp", "Model", "Moe", "Recurrent", "load_model", "model_names"]
