"""An archive -> its index: the build, and what keeps an index up to date."""
