"""What clue leaves on disk: folders, logs, and the files of a scan."""
