"""Carries decisions out: take a key, observe, plan, execute, until there is nothing to do but wait."""
