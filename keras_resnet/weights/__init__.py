"""Files and names of weights: read without anybody's framework, renamed by tables."""
