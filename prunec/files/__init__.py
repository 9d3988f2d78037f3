"""Write artefacts atomically, with a manifest of sizes and sha256."""
