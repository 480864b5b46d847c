"""One NeuronCore in software: memories, tiles, number formats and instructions of v2, v3 and v4.

`memory` holds SBUF, PSUM, HBM and the tiles that look into them; `isa` lists every instruction; `engines` and `dma` give their
meaning; `trace` records what ran; `communicator` connects cores and ranks. The front end with AWS's names is `mowich.nki`.
"""
