"""`jsafe sketch draw`: a page on which a person draws and a model completes the drawing."""
