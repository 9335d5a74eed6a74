"""The simulator held against Benchling's own OpenAPI files and against the real SDK."""
