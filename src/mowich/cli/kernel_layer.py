"""`mowich kernel layer`: decoder layers and a whole step of a model, made of kernels on simulated NeuronCores."""

from __future__ import annotations

from mowich.cli.kernel import kernel_app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import kernels


@verb(kernel_app, kernels.LAYER, "layer")
def kernel_layer(asked: kernels.LayerRequest) -> None:
    """A step of a model, part by part."""
    from mowich.studies.layer.study import time_layers

    with progress(asked.form.quiet) as line:
        line(f"timing the kernels of a layer of {asked.model_given}")
        found = time_layers(asked)
    emit(found.to_dict(), asked.form, inputs={"model_given": asked.model_given, **asked.given}, model=asked.model)
