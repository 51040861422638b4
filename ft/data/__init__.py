"""Images and labels: where they come from, how they are split, ordered, cropped and batched."""
