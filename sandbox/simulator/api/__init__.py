"""The tenant's HTTP API: one module for each resource, all of them functions of the world and a call."""
