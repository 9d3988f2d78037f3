"""What people read: tables made of the plain dictionaries that `report.json` holds, and the picture of a network."""
