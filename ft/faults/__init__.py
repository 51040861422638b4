"""What goes wrong while a run trains: numbers that are not finite, memory that is short, processes that die."""
