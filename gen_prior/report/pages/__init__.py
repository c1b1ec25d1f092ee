"""HTML pages that open from disk: the frame and the style that all share, and the gallery of a result folder."""
