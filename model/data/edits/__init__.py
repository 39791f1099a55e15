"""The edits that make a forgery: splice, copy-move, removal, local edits. One module each."""
