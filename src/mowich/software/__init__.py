"""Software on a machine, from facts: training stacks, serving engines, and what a vendor's machines have."""
