"""The local web page over `Editor`: a JSON API, one worker that owns the model, and a page without a build step."""
