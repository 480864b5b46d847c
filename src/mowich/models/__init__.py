"""Models: what is computed. `load` turns a built-in name, a `config.json` or a directory into a `Model`."""

from mowich.models.builtin import load, names
from mowich.models.model import Attention, Layer, Mlp, Model, Moe, Recurrent

__all__ = ["Attention", "Layer", "Mlp", "Model", "Moe", "Recurrent", "load", "names"]
