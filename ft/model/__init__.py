"""A timm backbone with a new head, its stages, and where its weights come from."""
