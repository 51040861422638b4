"""How the runs of a sweep are done: where, in which process, and which of them are computed together."""
