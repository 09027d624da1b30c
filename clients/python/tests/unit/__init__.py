"""Tests that need nothing but Python: what is pure, and clients and readers against heads that do what a test says."""
