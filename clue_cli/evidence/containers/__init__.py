"""What is in an archive: a module for each kind of container, named by the table of `formats`."""
