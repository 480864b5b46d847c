"""Whole decoder layers and steps on simulated NeuronCores: what one rank has of a layer (`shape`), the kernels that do
it (`calls`, those of AWS's nki-library by `library`), several of them as one launch (`decoder`), and their times put
together (`study`)."""
