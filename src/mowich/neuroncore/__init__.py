"""One NeuronCore in software: memories, tiles, number formats and instructions of v2, v3 and v4.

`memory` holds the allocations in SBUF, PSUM and HBM, `views` the tiles that look into them, `placement` says where they
lie; `instructions` holds the constraints, the effect and the cost of each instruction, a module for each engine;
`trace` records what ran; `clock` says when; `communicator` connects cores and ranks. The front end with AWS's names is
`mowich.nki`.
"""
