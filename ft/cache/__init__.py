"""What was computed once and is kept between runs: decoded images, activations, findings about the machine."""
