"""A Benchling tenant on one machine: API, exports, archives, webhooks, and a switch for every known failure."""
