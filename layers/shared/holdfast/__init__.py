"""Holdfast: credits that are held before work starts, charged for what was delivered, given back otherwise."""
