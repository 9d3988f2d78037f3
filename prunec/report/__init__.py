"""Format results for people: tables of the plain dictionaries in `report.json`, and the picture of a network."""
