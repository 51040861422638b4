"""``sweep=backbones``: which pretrained backbone suits the data, found without training all of them."""
