"""Tests of the Benchling simulator."""
