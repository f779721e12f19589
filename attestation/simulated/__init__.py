"""A software stand-in for the secure processor: real report bytes, signed by a vendor that somebody made up."""
