"""`clue eval --task synthetic`: whole-picture detection, through the flow of the localization's measurements."""
