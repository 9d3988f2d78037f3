"""Write artefacts whole or not at all, with a manifest of what was written."""
