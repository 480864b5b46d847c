"""The clock of a NeuronCore: when each recorded instruction runs. It computes no values.

Phases, in order: `lower` leaves out what the compiler leaves out; `costs` gives each kind of instruction its times;
`program` adds spills and loads of tables, with `depend` (who waits for whom) and `buffers` (which bytes a tile takes);
`schedule` runs the event loop; `latency` finds the critical path and the interval of the result.
"""
