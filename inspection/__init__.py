"""What the files of a web project say about how it wants to be served. Nothing of the project is imported or run."""
