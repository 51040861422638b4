"""What this machine is good at: measured once, remembered, and chosen by rules that can be read."""
