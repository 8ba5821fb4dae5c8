"""Runfold's own API as tests call it: streams, timelines, moments."""
