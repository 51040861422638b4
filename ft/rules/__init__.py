"""What the values of a config may be, told without importing what will use them."""
