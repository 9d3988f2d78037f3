"""Run passes in order, checked, verified and watched by instruments."""
