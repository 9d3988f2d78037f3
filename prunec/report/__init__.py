"""Format results: tables of the plain dictionaries in `report.json`, and network pictures."""
