"""From a composed config to objects: the only place that reads its keys."""
