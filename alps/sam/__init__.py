"""Segment Anything (arXiv 2304.02643) behind one protocol: embed an image, predict from prompts."""
