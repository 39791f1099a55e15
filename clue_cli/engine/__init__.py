"""One flow of work, from a source through decoders and networks to a sink, for every command that runs the network."""
