"""Runs of toy networks."""

from toy_networks import toy_networks as toy_networks
