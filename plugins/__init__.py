"""One technique a file, its YAML in ``conf/plugins`` and its test in ``tests/plugins`` under the same name."""
