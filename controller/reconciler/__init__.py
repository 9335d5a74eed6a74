"""Carries out decisions: takes a key, observes, plans and executes until nothing is left to do except wait."""
