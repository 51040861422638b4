"""Between the shell and a verb: composing the config, and telling mistakes. Free of torch."""
